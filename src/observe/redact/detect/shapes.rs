//! Secrets in a fixed place of a known text: the message of a program, a dump, a command, a configuration.
//!
//! A text must contain the mark of a shape before its expression is compiled and searched. One scan finds all marks.

use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};

use crate::observe::redact::class::KnownClass::{self, AuthHeader, Flag, KeyValue, PrivateKey};
use crate::observe::redact::detect::announced;
use crate::observe::redact::detect::matches::Matches;
use crate::observe::redact::detect::pairs::KeyRules;
use crate::observe::redact::detect::trigrams::Trigrams;
use crate::observe::redact::detect::values::{self, PairOperator};
use crate::observe::redact::detect::{harmless, looks};
use crate::observe::redact::placeholder::Placeholder;

/// A shape: its mark, and an expression whose group `v` is the secret and whose group `n`, if any, is its name.
struct Shape {
    mark: &'static str,
    class: KnownClass,
    /// The value counts only if it looks random.
    random: bool,
    expression: &'static str,
}

const fn named(mark: &'static str, expression: &'static str) -> Shape {
    Shape { mark, class: KeyValue, random: false, expression }
}

const fn random(mark: &'static str, class: KnownClass, expression: &'static str) -> Shape {
    Shape { mark, class, random: true, expression }
}

const fn shape(mark: &'static str, class: KnownClass, expression: &'static str) -> Shape {
    Shape { mark, class, random: false, expression }
}

/// The shapes. `NL` in an expression is a line end, real or made visible.
#[rustfmt::skip]
const SHAPES: &[Shape] = &[
    // A name and its value with something between them.
    named("=0x", r#"(?P<n>[\w.-]{2,60})=0x[0-9a-f]{1,16} "(?P<v>[^"\n]+)""#),
    named("# => ", r##"(?P<n>\w[\w.-]{1,60})["'\])]{0,4} # => "(?P<v>[^"\n]+)""##),
    named(" As ", r#"(?P<n>[\w.-]{2,60}) As String = "(?P<v>[^"\n]+)""#),
    named(") {", r"(?P<n>[\w.-]{2,60})\) \{(?P<v>[^{}\s]+)\}"),
    named("\" -> \"", r#"(?P<n>[\w.-]{2,60})"?\s{0,20}[=:]\s{0,20}"[^"\n]*" -> "(?P<v>[^"\n]+)""#),
    named("] from ", r#"\[(?P<n>[\w.-]{2,60})\] from [^\n:"]{1,80}: "(?P<v>[^"\n]+)""#),
    named("<Value>", r"<(?P<n>[\w.-]{2,60})>\s{0,20}<Value>(?P<v>[^<\n]+)</Value>"),
    named("argv[", r#"argv\[\d+\] ?[=:] ?"?--?(?P<n>[\w-]{2,60})"?NLargv\[\d+\] ?[=:] ?"?(?P<v>[^\s"\\]+)"#),
    named("name=\"", r#"name="(?P<n>[\w.-]{2,60})"NLNL(?P<v>[^\s\\]+)"#),
    named("= \\", r"(?P<n>[\w.-]{2,60}) = \\NL\s{0,20}(?P<v>[^\s\\]+)"),
    // A user and a password.
    shape("=(", AuthHeader, r#"(?:basic_auth|http_auth|auth)=\(['"][^'"\n]*['"], ?['"](?P<v>[^'"\n]+)['"]\)"#),
    shape("\"AUTH\"", KeyValue, r#""AUTH" (?:"[^"\n]*" )?"(?P<v>[^"\n]+)""#),
    shape("->connect(", KeyValue, r#"->connect\(\s{0,20}["'][^"'\n]*["'],\s{0,20}["'][^"'\n]*["'],\s{0,20}["'](?P<v>[^"'\n]+)["']"#),
    shape("nickserv ", KeyValue, r#"nickserv "[^"\n]*" "(?P<v>[^"\n]+)""#),
    shape(" on >", KeyValue, r"user \S{1,60} on >(?P<v>\S{4,})"),
    random(":*:", KeyValue, r"(?m)^[\w.*-]+:(?:\d{2,5}|\*):[\w*-]+:[\w*-]+:(?P<v>\S{6,})$"),
    random(":5432:", KeyValue, r"(?m)^[\w.*-]+:5432:[\w*-]+:[\w*-]+:(?P<v>\S{6,})$"),
    shape("\"auth\"", AuthHeader, r#""auth"\s{0,4}:\s{0,4}"(?P<v>[A-Za-z0-9+/]{12,}={0,2})""#),
    random("ogin(", KeyValue, r#"(?i)login\(["'][^"'\n]{0,80}["'], ?["'](?P<v>[^"'\s]{6,})"#),
    random("redentials(", KeyValue, r#"(?i)credentials\(["'][^"'\n]{0,80}["'], ?["'](?P<v>[^"'\s]{6,})"#),
    random("uth(", KeyValue, r#"(?i)auth\(["'][^"'\n]{0,80}["'], ?["'](?P<v>[^"'\s]{6,})"#),
    random("entication(", KeyValue, r#"(?i)authentication\(["'][^"'\n]{0,80}["'], ?["'](?P<v>[^"'\s]{6,})"#),
    random("asic(", AuthHeader, r#"(?i)basic\(["'][^"'\n]{0,80}["'], ?["'](?P<v>[^"'\s]{6,})"#),
    // Commands.
    random("cargo login ", Flag, r"cargo login (?P<v>[^\s=-]\S{7,})"),
    shape("change_password ", Flag, r"change_password \S{1,60} (?P<v>\S{4,})"),
    random("vault login ", Flag, r"vault login (?P<v>[^\s=-]\S{7,})"),
    random(" -a ", Flag, r"\b(?:https?|xh|xhs) (?:-{1,2}[\w-]+ )*-a [^\s:]{1,60}:(?P<v>\S{4,})"),
    shape("net use ", Flag, r"net use [^\n]{1,120} /user:\S{1,60} (?P<v>[^\s/]\S{3,})"),
    random(" /p:", Flag, r" /p:(?P<v>[^\s=]{6,})"),
    shape("htpasswd ", Flag, r"htpasswd (?:-\w+ )*-\w*b\w* (?:-\w+ )*\S{1,120} \S{1,60} (?P<v>\S{4,})"),
    random("snmp", Flag, r"snmp\w{2,12} [^\n]{0,200}? -A (?P<v>\S{8,})"),
    random("snmp", Flag, r"snmp\w{2,12} [^\n]{0,200}? -X (?P<v>\S{8,})"),
    random("alias set ", Flag, r"mc alias set \S{1,60} \S{1,120} \S{1,60} (?P<v>\S{8,})"),
    shape("secret", Flag, r#"secrets? [^\n]{1,120}? --(?:string-value|body|secret-string|value)[ =]"?(?P<v>[^\s"]{8,})"#),
    random("send ", KeyValue, r#"send (?:-- )?"(?P<v>[^"\n\\]{6,})\\{1,2}r""#),
    shape("SecureString", Flag, r#"ConvertTo-SecureString(?: -(?:AsPlainText|Force|String|Key \S+))* "(?P<v>[^"$\n]+)""#),
    shape("SecureString", Flag, r"ConvertTo-SecureString(?: -(?:AsPlainText|Force|String|Key \S+))* '(?P<v>[^'\n]+)'"),
    shape("SecureString", Flag, r#"ConvertTo-SecureString(?: -(?:AsPlainText|Force|String|Key \S+))* (?P<v>[^\s"'$(-][^\s"']*)"#),
    shape("set -", Flag, r#"\bset (?:-\w+ )+(?P<n>[A-Za-z]\w{1,60}) ["']?(?P<v>[^\s"']+)"#),
    shape("etenv ", Flag, r#"\bsetenv (?P<n>[A-Za-z]\w{1,60}) ["']?(?P<v>[^\s"']+)"#),
    shape("setx ", Flag, r#"(?i)\bsetx (?P<n>[A-Za-z]\w{1,60}) ["']?(?P<v>[^\s"']+)"#),
    shape("config ", Flag, r#"\bconfig (?:set )?(?:-\S+ )*(?P<n>[\w./:-]{2,80}) ["']?(?P<v>[^\s"'-][^\s"']*)"#),
    shape("pypi-token", Flag, r#"pypi-token\.\S{1,40} ["']?(?P<v>[^\s"'-][^\s"']*)"#),
    shape("net user ", Flag, r"net user \S{1,60} (?P<v>[^\s/*]\S{3,})"),
    // A secret on the standard input of a program.
    shape("-stdin", Flag, r#"\b(?:echo|printf)(?: -\w+)*(?: ["']?%s(?:\\n)?["']?)? ["']?(?P<v>[^\s"'|$-][^\s"'|]*)["']? ?\| ?[^|\n]{0,160}?--?[\w-]*(?:pass|password|token|secret|key)[\w-]*-stdin"#),
    shape("-stdin", Flag, r#"(?:password|token|secret|key)[\w-]*-stdin ?<<< ?["']?(?P<v>[^\s"'$]+)"#),
    shape("<<<", Flag, r#"<<< ?["']?(?P<v>[^\s"'$|]+)["']? ?\| ?[^|\n]{0,160}?--?[\w-]*(?:password|token|secret|key)[\w-]*-stdin"#),
    shape("with-token", Flag, r#"\b(?:echo|printf)(?: -\w+)*(?: ["']?%s(?:\\n)?["']?)? ["']?(?P<v>[^\s"'|$-][^\s"'|]*)["']? ?\| ?[^|\n]{0,160}?--with-token"#),
    shape("login -", Flag, r#"\b(?:echo|printf)(?: -\w+)*(?: ["']?%s(?:\\n)?["']?)? ["']?(?P<v>[^\s"'|$-][^\s"'|]*)["']? ?\| ?[^|\n]{0,60}?login -(?:\s|$)"#),
    shape("sudo -S", Flag, r#"\b(?:echo|printf)(?: -\w+)*(?: ["']?%s(?:\\n)?["']?)? ["']?(?P<v>[^\s"'|$-][^\s"'|]*)["']? ?\| ?sudo -S"#),
    shape("chpasswd", Flag, r#"\b(?:echo|printf)(?: -\w+)*(?: ["']?%s(?:\\n)?["']?)? ["']?[\w.-]{1,40}:(?P<v>[^\s"'|$]+)["']? ?\| ?(?:sudo )?chpasswd"#),
    // Configurations and dumps.
    shape("community", KeyValue, r"\br[ow]community6? (?P<v>\S{4,})"),
    shape("random_password", KeyValue, r#"random_password[^}]{0,160}?result"?\s{0,8}[=:] "(?P<v>[^"\n]+)""#),
    random(" / ", KeyValue, r"(?i)(?:credentials?|login|log in|sign in|account|password)(?: with \S{1,40}|[^\n:/]{0,24}[:=] ?\S{1,40}) / (?P<v>[^\s,]{6,})"),
    shape("AC", KeyValue, r"\bAC[0-9a-f]{32}[^\n]{1,24}?\b(?P<v>[0-9a-f]{32})\b"),
    shape("community ", KeyValue, r"snmp-server community (?P<v>\S{4,})"),
    random(" secret ", KeyValue, r"\bsecret [05789] (?P<v>\S{8,})"),
    shape("<master>", KeyValue, r"<master>\{(?P<v>[^}\s]{16,})\}"),
    shape(".authorization.k8s.io.", AuthHeader, r"\.authorization\.k8s\.io\.(?P<v>[\w-]{16,})"),
    shape(":::", KeyValue, r"(?i):\d{1,10}:(?P<v>[0-9a-f]{32}:[0-9a-f]{32}):::"),
    shape(":$", KeyValue, r":(?P<v>\$(?:1|5|6|7|y|gy|apr1|argon2\w{1,2}|2[aby])\$[\w./$,=+-]{20,})"),
    shape("appid=", KnownClass::Url, r"[?&]appid=(?P<v>[0-9a-f]{32})\b"),
    shape("odes", KeyValue, r"(?i)(?:recovery|backup|scratch) codes[^\n:]{0,40}:(?P<v>(?:NL?\s{0,8}[a-z0-9]{4,8}-[a-z0-9]{4,8}\b)+)"),
    shape("SSWS 00", AuthHeader, r"SSWS (?P<v>00[\w-]{20,})"),
    shape(":{S", KeyValue, r":(?P<v>\{S?SHA\d{0,3}\}[\w+/=]{20,})"),
    shape("WIFI:", KeyValue, r"WIFI:[^\n]{0,120}?\bP:(?P<v>[^;\n]{4,})"),
    shape(";s:", KeyValue, r#"s:\d{1,3}:\\?"(?P<n>[\w.-]{2,60})\\?";s:\d{1,5}:\\?"(?P<v>[^"\\\n]+)"#),
    shape("S'", KeyValue, r"[SVX]'(?P<n>[\w.-]{2,60})'NL(?:p\d{1,4}NL)?[SVX]'(?P<v>[^'\n]+)'"),
    shape("add-mask::", KeyValue, r"add-mask::(?P<v>[^\s$]{4,})"),
    shape("issecret=true", KeyValue, r"issecret=true[^\]\n]{0,80}\](?P<v>[^\s$]{4,})"),
    shape("type=\"password\"", KeyValue, r#"<input\b[^>]{0,200}?\bvalue="(?P<v>[^"{$<]{4,})"[^>]{0,200}?type="password""#),
    shape("Private-Lines", PrivateKey, r"Private-Lines: \d{1,3}(?P<v>(?:NL[A-Za-z0-9+/=]{16,})+)"),
    // Dialogues of protocols and prompts.
    random("PASS ", KeyValue, r"(?:^|NL|[>:\]] ?)PASS (?P<v>[^\s/\\]{4,})(?:\s|\\|$)"),
    shape("PASS ", KeyValue, r"USER \S{1,80}(?:NL[^\n]{0,160}?){0,2}NL[^\n]{0,12}?PASS (?P<v>[^\s\\]{3,})"),
    shape(" LOGIN ", KeyValue, r#"\b[A-Za-z]{0,4}\d{1,6} LOGIN (?:"[^"\n]{1,80}"|[^\s"]{1,80}) "(?P<v>[^"\n]{3,})"#),
    shape(" LOGIN ", KeyValue, r#"\b[A-Za-z]{0,4}\d{1,6} LOGIN (?:"[^"\n]{1,80}"|[^\s"]{1,80}) (?P<v>[^\s"]{3,})"#),
    shape(" PLAIN ", AuthHeader, r"AUTH(?:ENTICATE)? PLAIN (?P<v>[A-Za-z0-9+/]{8,}={0,2})"),
    shape(" XOAUTH2 ", AuthHeader, r"AUTH(?:ENTICATE)? XOAUTH2 (?P<v>[A-Za-z0-9+/]{8,}={0,2})"),
    shape("334 ", AuthHeader, r"334 [A-Za-z0-9+/=]*NL[^A-Za-z0-9\n]{0,4}(?:C: ?)?(?P<v>[A-Za-z0-9+/]{4,}={0,2})"),
    random("AUTH ", KeyValue, r#"(?:^|NL|> ?)AUTH (?:[\w.-]{1,40} )?(?P<v>[^\s"\\]{6,})"#),
    random("IDENTIFY ", KeyValue, r"\bIDENTIFY (?:\S{1,40} )?(?P<v>\S{6,})"),
    shape("requirepass ", KeyValue, r#"\brequirepass "?(?P<v>[^\s"]{4,})"#),
    shape("masterauth ", KeyValue, r#"\bmasterauth "?(?P<v>[^\s"]{4,})"#),
    random("ssword for ", KeyValue, r"(?i)password for [^\n:]{1,80}(?:://[^\n:]{1,80})?(?::\d{1,5}['/]?)?: (?P<v>\S{4,})"),
    random("ssphrase for ", KeyValue, r"(?i)passphrase for [^\n:]{1,80}: (?P<v>\S{4,})"),
    shape("ssword:", KeyValue, r#"ssword:[^\n]{0,40}NL\s{0,8}send (?:-- )?"(?P<v>[^"\n\\]{4,})"#),
    random("creds", KeyValue, r"\bcreds(?: are)?:? [\w.@-]{1,40} ?[/:] ?(?P<v>[^\s,]{6,})"),
    random("redentials", KeyValue, r"(?i)\bcredentials(?: are)?:? [\w.@-]{1,40} ?[/:] ?(?P<v>[^\s,]{6,})"),
    random("og in as ", KeyValue, r"(?i)\blog in as [\w.-]{1,32}:(?P<v>[^\s,]{6,})"),
    random("ogin ", KeyValue, r"(?i)\blogin (?:as |with )?[\w.-]{1,32}:(?P<v>[^\s,]{6,})"),
    random("onnect(", KeyValue, r#"\bconnect\(["'][^"'\n]{0,120}["'], ?["'][^"'\n]{0,80}["'], ?["'](?P<v>[^"'\s]{4,})"#),
    random("__construct(", KeyValue, r#"__construct\(["'][^"'\n]{0,120}["'], ?["'][^"'\n]{0,80}["'], ?["'](?P<v>[^"'\s]{4,})"#),
    random(" login ", Flag, r"\b[a-z][a-z-]{1,24} (?:auth )?login (?:`?-{1,2}[\w-]+ )*(?P<v>[\w.-]{20,})"),
    shape("rabbitmqctl ", Flag, r"rabbitmqctl (?:-\S+ )*(?:add_user|change_password) \S{1,60} (?P<v>\S{4,})"),
    shape("net use ", Flag, r"net use \S{1,20} \\{2,4}\S{1,120} (?P<v>[^\s/]\S{3,}) /u"),
    shape(" /rp ", Flag, r"schtasks [^\n]{0,200}? /rp (?P<v>[^\s*]\S{3,})"),
    random("snmp", Flag, r"snmp\w{2,12} [^\n]{0,200}?-c (?P<v>\S{4,})"),
    // Keys of wallets.
    shape("0x", PrivateKey, r"(?i)(?:private|privkey|priv_key|secret key|wallet import|import.key)[^\n]{0,40}?\b(?P<v>0x[0-9a-f]{64})\b"),
    random("rivate", PrivateKey, r"(?i)private.?key[^\n]{0,24}?\b(?P<v>[1-9A-HJ-NP-Za-km-z]{80,90})\b"),
];

/// The starts of all marks. The compiler computes them, so they cost no time at the start.
static BEGINS: Trigrams = {
    let mut begins = Trigrams::new();
    let mut index = 0;
    while index < SHAPES.len() {
        begins.add(SHAPES[index].mark.as_bytes());
        index += 1;
    }
    begins
};

/// Returns a bit for every shape whose mark is in `bytes`.
fn marked(bytes: &[u8]) -> u128 {
    const { assert!(SHAPES.len() <= 128) };
    let mut marked = 0;
    for at in BEGINS.positions(bytes) {
        let rest = bytes.get(at..).unwrap_or_default();
        for (index, shape) in SHAPES.iter().enumerate() {
            let mark = shape.mark.as_bytes();
            if rest.first() == mark.first() && rest.starts_with(mark) {
                marked |= 1 << index;
            }
        }
    }
    marked
}

fn compiled(index: usize, shape: &Shape) -> Option<&'static Regex> {
    static COMPILED: [OnceLock<Option<Regex>>; SHAPES.len()] = [const { OnceLock::new() }; SHAPES.len()];
    let compile = || {
        let expression = shape.expression.replace("NL", r"(?:\r?\n|(?:\\u\{d\})?\\u\{a\})");
        RegexBuilder::new(&expression).unicode(false).build().ok()
    };
    COMPILED.get(index)?.get_or_init(compile).as_ref()
}

/// Matches the secret of every shape in `text`.
pub(crate) fn find(text: &str, rules: &KeyRules, placeholder: &Placeholder, matches: &mut Matches) {
    // Every shape contains one of them, most names and ids do not.
    let bytes = text.as_bytes();
    if memchr::memchr3(b' ', b'=', b':', bytes).is_none() && memchr::memchr(b'>', bytes).is_none() {
        return;
    }
    let marked = marked(bytes);
    for (index, shape) in SHAPES.iter().enumerate().filter(|(index, _)| marked >> index & 1 == 1) {
        let Some(expression) = compiled(index, shape) else { continue };
        for found in expression.captures_iter(text.as_bytes()) {
            let Some(value) = found.name("v") else { continue };
            let secret = text.get(value.start()..value.end()).unwrap_or_default();
            let is_named = found.name("n").is_none_or(|name| {
                let name = std::str::from_utf8(name.as_bytes()).unwrap_or_default();
                rules.announces(name.rsplit(['.', ':', '/']).next().unwrap_or(name), secret)
                    && values::is_secret(secret, name, PairOperator::Assignment, true)
            });
            let fits = !shape.random
                || looks::is_random_short(secret)
                || announced::is_value(secret)
                || looks::is_password_like(secret);
            if is_named
                && fits
                && secret.len() >= 4
                && !placeholder.is_whole(secret)
                && !secret.starts_with("file://")
                && !harmless::is_reference(secret)
            {
                matches.push(value.start(), value.end(), shape.class, "known-shape");
            }
        }
    }
    matches.settle();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_compiles() {
        for (index, shape) in SHAPES.iter().enumerate() {
            assert!(compiled(index, shape).is_some(), "{}", shape.expression);
        }
    }
}
