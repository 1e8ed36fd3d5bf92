//! Connections that others open. Before it has greeted, nobody knows whose a connection is: of those
//! strangers there are few at a time, and a crowd of them must not keep members apart.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use mio::{Interest, Token};

use super::{GREETING_MAX, Sockets};
use crate::peers::connection::{Connection, Stage, set_up};
use crate::peers::tls::Tls;

/// Connections that are accepted in one turn: a crowd must not hold up the log.
const ACCEPTED_MAX: usize = 16;
/// Connections that have not greeted yet, at most.
const STRANGERS_MAX: usize = 64;
/// And from one address, unless a member is there.
const STRANGERS_OF_ADDRESS_MAX: usize = 8;
/// Addresses at which members are known to be.
const MEMBER_ADDRESSES_MAX: usize = 256;

/// One that has not greeted, as far as it matters who makes room.
#[derive(Clone, Copy, Debug)]
struct Stranger {
    token: usize,
    from: IpAddr,
    /// A member is at that address.
    is_at_member: bool,
    /// The further, the later it makes room.
    progress: u8,
}

/// Whether there is room for one more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Free,
    /// If that one goes.
    Instead(usize),
    None,
}

impl Sockets {
    pub(super) fn accept(&mut self, now: Duration) {
        for _ in 0..ACCEPTED_MAX {
            if !self.is_acceptable {
                return;
            }
            let (socket, from) = match self.listener.accept() {
                Ok((socket, from)) => (socket, from.ip().to_canonical()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_acceptable = false;
                    return;
                }
                Err(error) => {
                    // No descriptors, or a connection that is gone already: with the next event.
                    self.is_acceptable = false;
                    return self.complain(now, 0, &format!("cannot accept: {error}"));
                }
            };
            let strangers = self.strangers();
            match room(&strangers, from, self.members_at.contains(&from)) {
                Room::Free => {}
                Room::Instead(token) => {
                    self.complain(now, 0, "too many connections that have not greeted");
                    self.remove(token);
                }
                Room::None => {
                    self.complain(now, 0, "too many connections that have not greeted");
                    continue;
                }
            }
            let tls = match self.tls.as_ref().map(Tls::accept).transpose() {
                Ok(tls) => tls,
                Err(error) => return self.complain(now, 0, &format!("TLS: {error}")),
            };
            if let Err(error) = set_up(&socket) {
                self.complain(now, 0, &format!("cannot set up a connection: {error}"));
                continue;
            }
            let mut connection = Connection::new(socket, tls, None, now + GREETING_MAX);
            connection.from = Some(from);
            self.add(connection);
        }
        self.is_busy |= self.is_acceptable;
    }

    /// Those that have not greeted, the oldest first.
    fn strangers(&self) -> Vec<Stranger> {
        let strangers = self.connections.iter().filter(|(_, one)| one.place.is_none());
        let stranger = |(token, one): (&usize, &Connection)| {
            let from = one.from?;
            let progress = match one.stage {
                Stage::Joining(_) => 2,
                Stage::Leaving => 0,
                _ => u8::from(one.has_spoken),
            };
            let is_at_member = self.members_at.contains(&from);
            Some(Stranger { token: *token, from, is_at_member, progress })
        };
        strangers.filter_map(stranger).collect()
    }

    /// A member is at `address`: who comes from there is let in before others.
    pub(super) fn note_member_at(&mut self, address: IpAddr) {
        if self.members_at.len() < MEMBER_ADDRESSES_MAX {
            self.members_at.insert(address.to_canonical());
        }
    }

    pub(super) fn add(&mut self, mut connection: Connection) {
        self.last_token += 1;
        let token = Token(self.last_token);
        let interest = Interest::READABLE | Interest::WRITABLE;
        match self.poll.registry().register(&mut connection.socket, token, interest) {
            Ok(()) => {
                self.connections.insert(token.0, connection);
            }
            Err(error) => tracing::error!(%error, "a connection cannot be watched"),
        }
    }
}

/// Whether one more from `from` may come in. If there are too many already, one goes that has not said
/// a word, or else the oldest; but nobody from the address of a member makes room for others.
fn room(strangers: &[Stranger], from: IpAddr, is_at_member: bool) -> Room {
    let of_address = || strangers.iter().filter(|stranger| stranger.from == from);
    if !is_at_member && of_address().count() >= STRANGERS_OF_ADDRESS_MAX {
        return instead(of_address());
    }
    if strangers.len() < STRANGERS_MAX {
        return Room::Free;
    }
    match instead(strangers.iter().filter(|stranger| !stranger.is_at_member)) {
        Room::None if is_at_member => instead(strangers.iter()),
        room => room,
    }
}

/// The first of those that have come least far.
fn instead<'a>(among: impl Iterator<Item = &'a Stranger>) -> Room {
    let first = among.min_by_key(|stranger| (stranger.progress, stranger.token));
    first.map_or(Room::None, |stranger| Room::Instead(stranger.token))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    fn stranger(token: usize, last: u8, is_at_member: bool, progress: u8) -> Stranger {
        Stranger { token, from: at(last), is_at_member, progress }
    }

    #[test]
    fn one_address_has_a_few_unless_a_member_is_there() {
        let few: Vec<_> =
            (0..8).map(|token| stranger(token, 1, false, u8::from(token < 2))).collect();
        assert_eq!(room(&few[..7], at(1), false), Room::Free);
        assert_eq!(room(&few, at(1), false), Room::Instead(2), "the oldest that is silent");
        assert_eq!(room(&few, at(2), false), Room::Free);
        assert_eq!(room(&few, at(1), true), Room::Free);
    }

    #[test]
    fn in_a_crowd_members_find_room_and_others_make_it() {
        let mut crowd: Vec<_> =
            (0..64).map(|at| stranger(usize::from(at), 100 + at / 8, false, 1)).collect();
        assert_eq!(room(&crowd, at(1), false), Room::Instead(0));
        assert_eq!(room(&crowd, at(1), true), Room::Instead(0));
        crowd[40].progress = 0;
        assert_eq!(room(&crowd, at(1), true), Room::Instead(40));
        for stranger in &mut crowd {
            stranger.is_at_member = true;
        }
        assert_eq!(room(&crowd, at(1), false), Room::None);
        assert_eq!(room(&crowd, at(1), true), Room::Instead(40));
    }
}
