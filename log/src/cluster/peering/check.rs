//! What a greeting must say.

use super::Me;
use crate::cluster::authority::Shown;
use crate::cluster::exchange::Local;
use crate::cluster::frame::{Hello, Refusal, RefusalCode};

/// Whether whoever says `hello` is who it must be. The protocol was compared when it was decoded.
pub(super) fn hello(
    me: &Me,
    local: &Local,
    hello: &Hello,
    certificate: Option<Shown>,
) -> Result<(), Refusal> {
    let refuse = |code, text: String| Err(Refusal::new(code, text));
    let node = hello.node;
    if hello.cluster != me.cluster {
        let text = format!("this is cluster {}, not {}", me.cluster, hello.cluster);
        return refuse(RefusalCode::Cluster, text);
    }
    if let Some(shown) = certificate
        && (shown.cluster, shown.node) != (hello.cluster, node)
    {
        let Shown { cluster, node: named, .. } = shown;
        let text = format!("the certificate is for node {named} of {cluster}, not for node {node}");
        return refuse(RefusalCode::Certificate, text);
    }
    if hello.generation != me.generation {
        let text = format!(
            "this is generation {} of the cluster, not {}: was one of them restored from a backup?",
            me.generation, hello.generation
        );
        return refuse(RefusalCode::Generation, text);
    }
    if node == me.node {
        let text = format!("this is node {node} itself: was its disk cloned?");
        return refuse(RefusalCode::Cloned, text);
    }
    let members = &local.members;
    if local.has_left(node) {
        return refuse(RefusalCode::Retired, format!("node {node} has left the cluster"));
    }
    let is_known = members.nodes.contains_key(&node) || local.leaving.contains(&node);
    if !is_known && hello.members_index <= members.index {
        return refuse(RefusalCode::Unknown, format!("node {node} is not a member"));
    }
    // Every node that keeps the log can issue certificates, also one that was removed.
    if let (Some(shown), Some(member)) = (certificate, members.nodes.get(&node))
        && shown.key != member.key
    {
        let text = format!("the certificate is not for the key with which node {node} was let in");
        return refuse(RefusalCode::Certificate, text);
    }
    let known = local.starts.get(&node).copied().unwrap_or(0);
    if hello.start < known {
        let text = format!(
            "node {node} starts as {}, but the log knows its start {known}: was its disk rolled back?",
            hello.start
        );
        return refuse(RefusalCode::RolledBack, text);
    }
    Ok(())
}
