//! Who may come into the cluster: what the leader does with a request to join.

use crate::cluster::authority::{Authority, AuthorityError, PublicKey};
use crate::cluster::frame::{Join, Joined, Refusal, RefusalCode, Secret};
use crate::cluster::members::{MemberChange, Members, Role};
use crate::cluster::token::{JoinToken, TokenError};

/// What comes of a request that is in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// This is to be proposed; when it was applied, [`Door::joined`] is the answer.
    Propose(MemberChange),
    /// The node was let in before and has not heard of it: [`Door::joined`] is the answer.
    Member,
}

/// The leader's door.
#[derive(Debug)]
pub struct Door<'a> {
    /// The cluster's authority.
    pub authority: &'a Authority,
    /// The members as they are now.
    pub members: &'a Members,
    /// Seconds since 1970.
    pub now_s: u64,
}

impl Door<'_> {
    /// Whether a node may come in.
    ///
    /// # Errors
    ///
    /// Why not, as the node is to be told.
    pub fn check(&self, join: &Join) -> Result<Entry, Refusal> {
        let refuse = |text: String| Err(Refusal::new(RefusalCode::Join, text));
        let token: JoinToken = match join.token.parse() {
            Ok(token) => token,
            Err(error) => return refuse(format!("the token does not let in: {error}")),
        };
        let cluster = self.authority.cluster();
        let verified = token.verify(&self.authority.token_key(), cluster, self.now_s);
        // Before anything that costs more: anybody can send a request.
        if let Err(error) = &verified
            && *error != TokenError::Expired
        {
            return refuse(format!("the token does not let in: {error}"));
        }
        let key = match PublicKey::of_request(&join.request) {
            Ok(key) => key,
            Err(error) => return refuse(error.to_string()),
        };
        let grant = token.grant();
        let known = self.members.nodes.get(&join.node);
        if let Some(member) = known
            && member.key == key.fingerprint
            && self.members.spent.contains_key(&grant.id)
            // The answer was lost. That the token has expired since does not matter.
            && matches!(verified, Ok(()) | Err(TokenError::Expired))
        {
            if grant.role != member.role || join.role != member.role {
                return refuse("the node was let in for another role".to_owned());
            }
            return Ok(Entry::Member);
        }
        if let Err(error) = verified {
            return refuse(format!("the token does not let in: {error}"));
        }
        if grant.node.is_some_and(|node| node != join.node) {
            return refuse(format!("the token is for another node than {}", join.node));
        }
        if grant.role != join.role {
            return refuse("the token is for another role".to_owned());
        }
        if join.role == Role::Edge {
            return refuse("nodes of the role edge come later".to_owned());
        }
        let (node, address, mqtt) = (join.node, join.address.clone(), join.mqtt.clone());
        let (role, key, token) = (join.role, key.fingerprint, grant.id);
        let (expires_s, at_s) = (grant.expires_s, self.now_s);
        let change = match grant.replaces {
            None => MemberChange::Join { node, address, mqtt, role, key, token, expires_s, at_s },
            Some(replaces) => MemberChange::JoinFor {
                node,
                address,
                mqtt,
                role,
                key,
                token,
                expires_s,
                at_s,
                replaces,
            },
        };
        match self.members.check(&change) {
            Ok(()) => Ok(Entry::Propose(change)),
            Err(error) => refuse(error.to_string()),
        }
    }

    /// The answer to a node that is a member now. Its log counts starts from `start_min`.
    ///
    /// # Errors
    ///
    /// If no certificate can be made.
    pub fn joined(&self, join: &Join, start_min: u64) -> Result<Joined, AuthorityError> {
        let key = PublicKey::of_request(&join.request)?;
        let authority_key = match join.role {
            Role::Log => self.authority.key().clone(),
            Role::Edge => Secret::default(),
        };
        Ok(Joined {
            cluster: self.authority.cluster(),
            generation: self.members.generation,
            start_min,
            authority: self.authority.certificate().to_vec(),
            authority_key,
            certificate: self.authority.issue(join.node, &key, self.now_s)?,
            members: self.members.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::authority::{NodeKey, fingerprint, node_of};
    use crate::cluster::identity::ClusterId;
    use crate::cluster::token::Grant;

    const CLUSTER: ClusterId = ClusterId([1; 16]);

    fn grant(authority: &Authority) -> Grant {
        Grant {
            cluster: CLUSTER,
            id: [2; 8],
            expires_s: 1_000,
            role: Role::Log,
            node: None,
            authority: fingerprint(authority.certificate()),
            addresses: vec!["one:7000".into()],
            replaces: None,
        }
    }

    fn members() -> Members {
        let mut members = Members::default();
        members.apply(
            1,
            &MemberChange::Found {
                cluster: CLUSTER,
                generation: 1,
                node: 1,
                address: "one:7000".into(),
                mqtt: vec![],
                key: [0; 32],
            },
        );
        members
    }

    fn join(token: &JoinToken, key: &NodeKey) -> Join {
        Join {
            token: token.to_string(),
            node: 2,
            request: key.request().unwrap(),
            address: "two:7000".into(),
            mqtt: vec![],
            role: Role::Log,
        }
    }

    #[test]
    fn a_node_comes_in_once_and_is_answered_again() {
        let authority = Authority::found(CLUSTER).unwrap();
        let token = JoinToken::issue(&authority.token_key(), grant(&authority));
        let (key, other) = (NodeKey::generate().unwrap(), NodeKey::generate().unwrap());
        let mut members = members();
        let join = join(&token, &key);
        let entry = Door { authority: &authority, members: &members, now_s: 900 }.check(&join);
        let Ok(Entry::Propose(change)) = entry else { panic!("{entry:?}") };
        assert!(members.apply(2, &change));
        let door = Door { authority: &authority, members: &members, now_s: 2_000 };
        assert_eq!(door.check(&join), Ok(Entry::Member));
        let joined = door.joined(&join, 1).unwrap();
        assert_eq!(node_of(&joined.certificate), Ok((CLUSTER, 2)));
        // What is asked again is what was granted, by this cluster.
        let asks = |token: String, role| door.check(&Join { token, role, ..join.clone() });
        let stranger = Authority::found(CLUSTER).unwrap();
        let forged = JoinToken::issue(&stranger.token_key(), grant(&authority)).to_string();
        assert!(asks(forged, Role::Log).unwrap_err().text.contains("not issued by this cluster"));
        let edge = Grant { role: Role::Edge, ..grant(&authority) };
        let edge = JoinToken::issue(&authority.token_key(), edge).to_string();
        assert!(asks(edge, Role::Log).unwrap_err().text.contains("another role"));
        assert!(asks(token.to_string(), Role::Edge).unwrap_err().text.contains("another role"));
        // The same number, but somebody else.
        let door = Door { now_s: 900, ..door };
        let stranger = Join { request: other.request().unwrap(), ..join.clone() };
        assert!(door.check(&stranger).is_err());
        let again = Join { node: 3, ..stranger };
        assert_eq!(door.check(&again).unwrap_err().text, "the token has been used");
    }

    #[test]
    fn a_token_says_whose_place_is_taken() {
        let authority = Authority::found(CLUSTER).unwrap();
        let issue = |id: u8, replaces| {
            let grant = Grant { id: [id; 8], replaces, ..grant(&authority) };
            JoinToken::issue(&authority.token_key(), grant)
        };
        let key = NodeKey::generate().unwrap();
        let mut members = members();
        for (node, replaces) in [(2, None), (3, Some(2))] {
            let token = issue(u8::try_from(node).unwrap(), replaces);
            let asks = Join { node, ..join(&token, &key) };
            let door = Door { authority: &authority, members: &members, now_s: 900 };
            let entry = door.check(&asks);
            let Ok(Entry::Propose(change)) = entry else { panic!("{entry:?}") };
            assert!(members.apply(node, &change));
            assert_eq!(members.nodes[&node].replaces, replaces);
        }
        let asks = Join { node: 4, ..join(&issue(4, Some(2)), &key) };
        let door = Door { authority: &authority, members: &members, now_s: 900 };
        let refusal = door.check(&asks).unwrap_err();
        assert_eq!(refusal.text, "node 3 takes the place of node 2 already");
    }

    #[test]
    fn each_wrong_request_has_a_text_of_its_own() {
        let authority = Authority::found(CLUSTER).unwrap();
        let key = NodeKey::generate().unwrap();
        let members = members();
        let issue = |change: fn(&mut Grant)| {
            let mut grant = grant(&authority);
            change(&mut grant);
            JoinToken::issue(&authority.token_key(), grant)
        };
        let good = join(&issue(|_| {}), &key);
        let with =
            |change: fn(&mut Grant)| Join { token: issue(change).to_string(), ..good.clone() };
        let stranger = Authority::found(CLUSTER).unwrap();
        let forged = JoinToken::issue(&stranger.token_key(), grant(&authority));
        let cases = [
            (Join { token: "x".into(), ..good.clone() }, "not a token"),
            (Join { token: forged.to_string(), ..good.clone() }, "not issued by this cluster"),
            // Nothing of a forged request is looked at but its token.
            (
                Join { token: forged.to_string(), request: vec![1], ..good.clone() },
                "not issued by this cluster",
            ),
            (with(|grant| grant.cluster = ClusterId([9; 16])), "of another cluster"),
            (with(|grant| grant.expires_s = 900), "has expired"),
            (with(|grant| grant.node = Some(3)), "for another node"),
            (with(|grant| grant.role = Role::Edge), "for another role"),
            (Join { role: Role::Edge, ..with(|grant| grant.role = Role::Edge) }, "come later"),
            (Join { request: vec![1], ..good.clone() }, "request for a certificate"),
            (Join { node: 1, ..good.clone() }, "is a member already"),
            (Join { node: 0, ..good.clone() }, "names no node"),
            (Join { address: String::new(), ..good.clone() }, "an address is"),
            (with(|grant| grant.replaces = Some(9)), "node 9 is not a member"),
            (with(|grant| grant.replaces = Some(1)), "no voter would be left"),
        ];
        let door = Door { authority: &authority, members: &members, now_s: 900 };
        for (join, text) in cases {
            let refusal = door.check(&join).expect_err(text);
            assert!(refusal.text.contains(text), "{text}: {refusal}");
        }
        assert!(door.check(&good).is_ok());
    }
}
