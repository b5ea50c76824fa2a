//! No field of an event can hold a text that did not pass the redactor.

use std::collections::BTreeSet;

use syn::visit::{self, Visit};

/// Types that cannot carry a text from outside (`LintRule` is a closed list of words). `event.rs` declares all other
/// types in its fields.
const SAFE: &[&str] = &[
    "Redacted",
    "RedactionCounts",
    "Hash",
    "Method",
    "LintRule",
    "DefinitionPart",
    "ToolChangeKind",
    "TraceId",
    "SpanId",
    "TraceFlags",
    "Moment",
    "Stream",
    "Duration",
    "Option",
    "Vec",
    "Box",
    "bool",
    "f64",
    "i32",
    "i64",
    "u16",
    "u32",
    "u64",
];

/// Collects the declared types and the types of all fields.
#[derive(Default)]
struct Fields {
    declared: BTreeSet<String>,
    doubtful: Vec<String>,
}

impl<'ast> Visit<'ast> for Fields {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.declared.insert(item.ident.to_string());
        visit::visit_item_struct(self, item);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.declared.insert(item.ident.to_string());
        visit::visit_item_enum(self, item);
    }

    /// The macro `words!` declares an enum.
    fn visit_item_macro(&mut self, item: &'ast syn::ItemMacro) {
        match item.mac.parse_body::<syn::ItemEnum>() {
            Ok(of_words) => {
                self.declared.insert(of_words.ident.to_string());
                of_words
                    .variants
                    .iter()
                    .flat_map(|variant| &variant.fields)
                    .for_each(|field| self.types(&field.ty));
            }
            Err(error) => self.doubtful.push(error.to_string()),
        }
    }

    fn visit_item_trait(&mut self, _: &'ast syn::ItemTrait) {}

    fn visit_item_fn(&mut self, _: &'ast syn::ItemFn) {}

    fn visit_field(&mut self, field: &'ast syn::Field) {
        self.types(&field.ty);
    }
}

impl Fields {
    /// Looks at a type and at its parameters.
    fn types(&mut self, of: &syn::Type) {
        match of {
            syn::Type::Path(path) if path.qself.is_none() && path.path.segments.len() == 1 => {
                let segment = &path.path.segments[0];
                self.doubtful.push(segment.ident.to_string());
                if let syn::PathArguments::AngleBracketed(arguments) = &segment.arguments {
                    for argument in &arguments.args {
                        match argument {
                            syn::GenericArgument::Type(of) => self.types(of),
                            _ => self.doubtful.push("a parameter".to_owned()),
                        }
                    }
                }
            }
            syn::Type::Tuple(tuple) => tuple.elems.iter().for_each(|of| self.types(of)),
            // The id of a hash key: four bytes of a hash.
            syn::Type::Array(array) if is_byte(&array.elem) && length(array) == Some(4) => {}
            syn::Type::Array(array) => self.types(&array.elem),
            syn::Type::Reference(reference) if is_static_str(reference) => {}
            _ => self.doubtful.push(format!("{:?}", std::mem::discriminant(of))),
        }
    }
}

fn is_byte(of: &syn::Type) -> bool {
    matches!(of, syn::Type::Path(path) if path.path.is_ident("u8"))
}

fn length(array: &syn::TypeArray) -> Option<usize> {
    let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Int(length), .. }) = &array.len else { return None };
    length.base10_parse().ok()
}

/// Returns true for a text of the program itself.
fn is_static_str(reference: &syn::TypeReference) -> bool {
    let is_static = reference.lifetime.as_ref().is_some_and(|lifetime| lifetime.ident == "static");
    is_static && matches!(&*reference.elem, syn::Type::Path(path) if path.path.is_ident("str"))
}

/// Returns the types in the fields of `source` that may carry a text from outside.
fn doubtful_types(source: &str) -> Vec<String> {
    let mut fields = Fields::default();
    fields.visit_file(&syn::parse_file(source).unwrap());
    let Fields { declared, mut doubtful } = fields;
    // `u8` is not safe, because a list of bytes may be a text.
    doubtful.retain(|name| !SAFE.contains(&name.as_str()) && !declared.contains(name));
    doubtful
}

/// The vocabulary of events has no type that could carry an outside text past the redactor.
#[test]
fn no_field_of_an_event_is_a_plain_text() {
    let folder = format!("{}/src/observe/event", env!("CARGO_MANIFEST_DIR"));
    let mut source = std::fs::read_to_string(format!("{folder}.rs")).unwrap();
    for file in std::fs::read_dir(&folder).unwrap() {
        // The comment at the head of a file may not follow items.
        source += &std::fs::read_to_string(file.unwrap().path()).unwrap().replace("//!", "//");
    }
    assert!(source.contains("pub name: Redacted"), "the test reads the right files");
    assert!(source.contains("pub error_message: Option<Redacted>"), "the test reads the right files");
    assert_eq!(doubtful_types(&source), Vec::<String>::new());
    // The test can fail.
    for field in [
        "String",
        "Option<String>",
        "Arc<str>",
        "Box<str>",
        "&'a str",
        "Cow<'static, str>",
        "OsString",
        "Vec<u8>",
        "[u8; 64]",
        "[char; 4]",
        "PathBuf",
        "Value",
        "serde_json::Value",
        "RequestId",
        "char",
        "Box<dyn Error>",
    ] {
        let with_it = source.replace("    pub request_size: u64,", &format!("    pub extra: {field},"));
        assert!(!doubtful_types(&with_it).is_empty(), "{field}");
        let with_it = source.replace("    DebugEnded,", &format!("    DebugEnded({field}),"));
        assert!(!doubtful_types(&with_it).is_empty(), "a variant of {field}");
    }
    let with_it = format!("{source} words! {{ pub enum Extra {{ A(String) }} }}");
    assert!(!doubtful_types(&with_it).is_empty(), "a variant in a macro");
}
