//! Enums whose variants are written as fixed words.

/// Declares an enum together with its words: `ALL` lists the variants, `as_str` and `Display` give the word of
/// a variant, and `from_word` returns the variant of a word.
macro_rules! words {
    ($(#[$of_enum:meta])* $visible:vis enum $name:ident {
        $($(#[$of_variant:meta])* $variant:ident = $word:literal),+ $(,)?
    }) => {
        $(#[$of_enum])*
        $visible enum $name {
            $($(#[$of_variant])* $variant),+
        }

        // Not every enum needs every function.
        #[allow(dead_code)]
        impl $name {
            pub const ALL: [$name; [$($word),+].len()] = [$($name::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $word),+
                }
            }

            /// Returns the variant that `word` names, if there is one.
            pub fn from_word(word: &str) -> Option<$name> {
                match word {
                    $($word => Some($name::$variant),)+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use words;
