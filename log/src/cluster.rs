//! The cluster: who its nodes are, what they say to each other, and how a node comes into it.
//!
//! Nothing in here has a socket, a file or a clock: those are in `peers.rs`.

pub mod authority;
pub mod conf_change;
pub mod config;
pub mod door;
pub mod doubt;
pub mod exchange;
pub mod frame;
pub mod identity;
pub mod members;
pub mod peering;
pub mod token;

pub use authority::{Authority, NodeKey};
pub use conf_change::{ConfChange, ConfChangeError};
pub use config::{ClusterConfig, ClusterConfigError};
pub use door::{Door, Entry};
pub use exchange::{JoinAnswer, Local, NoPeers, PeerInput, Peers, Sent, Traffic, Volume};
pub use frame::{
    AWAY, Answer, Command, DRAINING, Decoder, Forward, Frame, FrameError, HELD_UP, Hello, Join,
    Joined, LEAVING, Lane, Pulse, Refusal, RefusalCode, Refused, Secret, SnapshotAck,
    SnapshotBegin, SnapshotChunk, SnapshotEnd, SnapshotState, Why, admit,
};
pub use identity::{ClusterId, Identity, IdentityError};
pub use members::{Member, MemberChange, Members, MembersError, Role, Standing, TokenId};
pub use peering::{Me, Peering};
pub use token::{JoinToken, TokenError, TokenKey};
