//! The run that a record belongs to.

/// The ids and names of one connection, which every record of the connection contains.
#[derive(Clone, Debug)]
pub struct Identity {
    /// UUIDv7 in its usual text form.
    pub connection_id: String,
    pub session_id: String,
    pub server_name: String,
    pub user_id: Option<String>,
}
