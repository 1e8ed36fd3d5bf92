//! Tokens with which other nodes join the cluster of this one.

use std::path::Path;
use std::sync::Arc;

use ledgermq_api::v1::{MakeToken, TokenAsk};
use ledgermq_log::Log;
use ledgermq_log::cluster::authority::fingerprint;
use ledgermq_log::cluster::token::Grant;
use ledgermq_log::cluster::{Authority, ClusterConfig, JoinToken, Members, Role};
use ledgermq_log::peers::ClusterDir;
use rustix::rand::{GetRandomFlags, getrandom};

/// Addresses in a token: enough to find one that answers, few enough for a text to copy.
const ADDRESSES_MAX: usize = 8;

/// What makes tokens, if the node can be joined and keeps the authority of its cluster.
pub(super) fn maker(config: &ClusterConfig, data_dir: &Path, log: Log) -> Option<MakeToken> {
    if !config.is_open() {
        return None;
    }
    let authority = match ClusterDir::new(data_dir).load() {
        Ok(loaded) => loaded?.authority?,
        Err(error) => {
            tracing::warn!(%error, "no tokens to join with can be made here");
            return None;
        }
    };
    let own = config.reached_at().to_owned();
    Some(Arc::new(move |ask| {
        let mut id = [0; 8];
        getrandom(&mut id, GetRandomFlags::empty())
            .map_err(|error| format!("the system gives no random numbers: {error}"))?;
        let now_s = log.time().0 / 1_000_000;
        Ok(make(&authority, ask, id, now_s, addresses(&own, &log.members())))
    }))
}

fn make(
    authority: &Authority,
    ask: TokenAsk,
    id: [u8; 8],
    now_s: u64,
    addresses: Vec<String>,
) -> String {
    let grant = Grant {
        cluster: authority.cluster(),
        id,
        expires_s: now_s.saturating_add(ask.ttl.as_secs()),
        role: ask.role,
        node: ask.node,
        authority: fingerprint(authority.certificate()),
        addresses,
        replaces: ask.replaces,
    };
    JoinToken::issue(&authority.token_key(), grant).to_string()
}

/// Where a node that joins asks: here first.
fn addresses(own: &str, members: &Members) -> Vec<String> {
    let keep_log = members.nodes.values().filter(|member| member.role == Role::Log);
    let others = keep_log.map(|member| &member.address).filter(|address| *address != own);
    [own]
        .into_iter()
        .chain(others.map(String::as_str))
        .take(ADDRESSES_MAX)
        .map(Into::into)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ledgermq_log::cluster::token::TEXT_BYTES_MAX;
    use ledgermq_log::cluster::{ClusterId, Member, Standing, TokenError};

    use super::*;

    fn members(count: u64, address: impl Fn(u64) -> String) -> Members {
        let member = |node| Member {
            address: address(node),
            mqtt: Vec::new(),
            role: Role::Log,
            standing: Standing::Voter,
            key: [0; 32],
            joined: 0,
            is_held: false,
            replaces: None,
        };
        let nodes = (1..=count).map(|node| (node, member(node))).collect();
        Members { nodes, ..Members::default() }
    }

    #[test]
    fn a_token_names_this_node_first_and_few_others() {
        let members = members(20, |node| format!("node-{node}:7000"));
        let addresses = addresses("node-3:7000", &members);
        assert_eq!(addresses[..3], ["node-3:7000", "node-1:7000", "node-2:7000"]);
        assert_eq!(addresses.len(), ADDRESSES_MAX);
    }

    #[test]
    fn a_token_lets_in_until_it_expires_and_is_never_too_long() {
        let cluster = ClusterId([7; 16]);
        let authority = Authority::found(cluster).unwrap();
        let (node, replaces) = (Some(3), Some(2));
        let ask = TokenAsk { role: Role::Log, ttl: Duration::from_secs(60), node, replaces };
        let longest = members(20, |node| format!("{node:a>249}:65535"));
        let addresses = addresses(&format!("{:b>249}:65535", ""), &longest);
        let text = make(&authority, ask, [1; 8], 1_000, addresses);
        assert!(text.len() <= TEXT_BYTES_MAX, "{}", text.len());
        let token: JoinToken = text.parse().unwrap();
        assert_eq!((token.grant().node, token.grant().replaces), (Some(3), Some(2)));
        assert_eq!(token.verify(&authority.token_key(), cluster, 1_059), Ok(()));
        let late = token.verify(&authority.token_key(), cluster, 1_060);
        assert_eq!(late, Err(TokenError::Expired));
    }
}
