//! Host configuration files: where they are, and how a server entry is edited without touching the rest.
