//! Changing an ensemble's membership.

use crate::jute::{Ustring, record};

record! {
    /// Asks for another membership. The answer is a [`GetDataResponse`](super::GetDataResponse) with the new configuration.
    pub struct ReconfigRequest<'a> {
        /// Servers to add or change, as comma-separated `server.N=…` lines; null for none.
        pub joining_servers: Ustring<'a>,
        /// Ids of servers to remove, comma-separated; null for none.
        pub leaving_servers: Ustring<'a>,
        /// The whole new membership, in place of the two others; null for none.
        pub new_members: Ustring<'a>,
        /// The version of the configuration this one replaces, or −1 for any.
        pub cur_config_id: i64,
    }
}
