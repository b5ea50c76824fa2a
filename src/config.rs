//! What was typed, the environment and the config file become the settings that each floor declares.
//!
//! After this nothing asks the environment again.
