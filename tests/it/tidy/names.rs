//! Names and sizes: a type name is used once, functions are short, doc comments are sentences.

use std::collections::BTreeMap;

use syn::spanned::Spanned;
use syn::visit::{self, Visit};

use super::code::{tokens, without_tests};
use super::{Source, program};

/// Functions of `src` that may be longer than [`LONG`] lines, with the reason.
const LONG_FUNCTIONS: &[(&str, &str)] = &[];

/// Lines of code after which a function is long.
const LONG: usize = 60;

/// Returns the subject of a file of the room `system`. One subject has a file for each system.
fn subject(path: &str) -> String {
    let systems = ["unix/", "linux/", "macos/", "windows/"];
    systems.iter().fold(path.to_owned(), |path, system| path.replace(system, ""))
}

/// Returns the names of types and traits that are declared more than once, with the files. The files of one subject for
/// several systems count as one.
fn duplicates(sources: &[Source]) -> BTreeMap<String, Vec<&str>> {
    let mut declared: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for source in sources {
        for pair in without_tests(tokens(&source.text)).windows(2) {
            let [keyword, name] = pair else { unreachable!() };
            let is_name = name.text.starts_with(char::is_uppercase);
            if is_name && ["struct", "enum", "trait", "union"].contains(&keyword.text.as_str()) {
                let files = declared.entry(name.text.clone()).or_default();
                let is_of = |file: &&str| *file != source.path && subject(file) == subject(&source.path);
                if !files.iter().any(is_of) {
                    files.push(&source.path);
                }
            }
        }
    }
    declared.retain(|_, files| files.len() > 1);
    declared
}

#[test]
fn a_type_name_is_used_once() {
    let sources = program();
    let found = duplicates(&sources);
    assert!(found.is_empty(), "{found:#?}");
    // The test can fail.
    let sources = [
        Source::of("a.rs", "struct A; #[cfg(test)] mod tests { struct B; } fn f(a: A) {}"),
        Source::of("b.rs", "words! { pub enum A { X = \"x\" } } struct B;"),
        Source::of("src/system/unix/linux/c.rs", "struct C;"),
        Source::of("src/system/windows/c.rs", "struct C;"),
    ];
    assert_eq!(duplicates(&sources).into_keys().collect::<Vec<_>>(), ["A"]);
}

/// Collects what the tests below look for in one file.
#[derive(Default)]
struct Finder {
    /// Functions with their lines, from the signature to the end.
    functions: Vec<(String, usize)>,
    /// The first lines of doc comments.
    docs: Vec<(usize, String)>,
}

impl Finder {
    fn of(text: &str) -> Finder {
        let mut finder = Finder::default();
        finder.visit_file(&syn::parse_file(text).unwrap());
        finder
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let lines = block.span().end().line - signature.span().start().line + 1;
        self.functions.push((signature.ident.to_string(), lines));
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test")
    })
}

impl<'ast> Visit<'ast> for Finder {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        if !is_for_tests(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.function(&function.sig, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.function(&function.sig, &function.block);
        visit::visit_impl_item_fn(self, function);
    }

    fn visit_trait_item_fn(&mut self, function: &'ast syn::TraitItemFn) {
        if let Some(block) = &function.default {
            self.function(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::NameValue(meta) = &attribute.meta
            && meta.path.is_ident("doc")
            && let syn::Expr::Lit(literal) = &meta.value
            && let syn::Lit::Str(text) = &literal.lit
        {
            self.docs.push((attribute.span().start().line, text.value()));
        }
    }
}

/// Returns the functions of `sources` that are longer than [`LONG`] lines.
fn long_functions(sources: &[Source]) -> Vec<String> {
    let functions = |source: &Source| {
        let long = Finder::of(&source.text).functions.into_iter().filter(|(_, lines)| *lines > LONG);
        long.map(|(name, _)| format!("{}: {name}", source.path)).collect::<Vec<_>>()
    };
    sources.iter().flat_map(functions).collect()
}

#[test]
fn long_functions_are_few_and_have_a_reason() {
    let listed: Vec<&str> = LONG_FUNCTIONS.iter().map(|(function, _)| *function).collect();
    assert_eq!(long_functions(&program()), listed);
    assert!(listed.len() <= 5 && LONG_FUNCTIONS.iter().all(|(_, reason)| reason.len() > 20));
    // The test can fail.
    let text = format!("impl A {{ fn f() {{{}}} fn g() {{}} }}", "\n".repeat(LONG));
    assert_eq!(long_functions(&[Source::of("a.rs", &text)]), ["a.rs: f"]);
}

/// Returns the doc comments that begin with a word that cannot begin a sentence about code.
fn fragments(source: &Source) -> Vec<String> {
    let mut fragments = Vec::new();
    let mut last = None;
    for (line, text) in Finder::of(&source.text).docs {
        let is_first = last.is_none_or(|last| line != last + 1);
        last = Some(line + text.matches('\n').count());
        if is_first && [" Whether ", " What "].iter().any(|word| text.starts_with(word)) {
            fragments.push(format!("{}:{line}:{text}", source.path));
        }
    }
    fragments
}

#[test]
fn a_doc_comment_begins_a_sentence() {
    let found: Vec<String> = program().iter().flat_map(fragments).collect();
    assert!(found.is_empty(), "{found:#?}");
    // The test can fail.
    let text = "//! What a.\nstruct A {\n/// Whether b.\nb: bool,\n/// Returns\n/// What c.\nc: bool }";
    assert_eq!(fragments(&Source::of("a.rs", text)), ["a.rs:1: What a.", "a.rs:3: Whether b."]);
}
