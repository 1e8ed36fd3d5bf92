//! The cluster: who its nodes are, what they say to each other, and how a node comes into it.
//!
//! Everything in here is pure. `peers.rs` has the sockets.

pub mod conf_change;
pub mod frame;
pub mod identity;
pub mod members;
pub mod token;

pub use conf_change::{ConfChange, ConfChangeError};
pub use frame::{
    Answer, Command, Decoder, Forward, Frame, FrameError, Hello, Join, Joined, Lane, Pulse,
    Refusal, RefusalCode, Refused, Secret, Why, admit,
};
pub use identity::{ClusterId, Identity, IdentityError};
pub use members::{Member, MemberChange, Members, MembersError, Role, Standing, TokenId};
pub use token::{JoinToken, TokenError, TokenKey};
