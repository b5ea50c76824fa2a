//! The other way round: session files to records, and records to something a person can look at.
