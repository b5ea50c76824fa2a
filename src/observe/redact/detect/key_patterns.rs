//! The names of secrets that the user sets.

use crate::text::glob::Glob;

/// The patterns of names in a setting. Case and `-`/`_` do not matter.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyPatterns(Vec<Glob>);

impl KeyPatterns {
    pub(crate) fn new(patterns: &[String]) -> KeyPatterns {
        KeyPatterns(patterns.iter().map(|pattern| Glob::new(fold(pattern))).collect())
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        if self.0.is_empty() {
            return false;
        }
        let name = fold(name);
        self.0.iter().any(|glob| glob.matches(&name))
    }
}

fn fold(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_key_may_hold_wildcards() {
        for (pattern, name, expected) in [
            ("x-tenant-*", "X_Tenant_Name", true),
            ("*_no", "employee-no", true),
            ("employee_no", "EMPLOYEE-NO", true),
            ("employee_no", "employee_nos", false),
            ("employee?no", "employee.no", true),
        ] {
            assert_eq!(KeyPatterns::new(&[pattern.to_owned()]).matches(name), expected, "{pattern} {name}");
        }
    }
}
