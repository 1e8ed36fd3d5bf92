//! More than the broker can take: from publishers, and for subscribers that do not read.
//!
//! What runs always takes seconds; the campaign of minutes is `./test.sh long-overload`.

mod campaign;
mod fanout;
mod flood;
mod probe;
mod raw;
mod slow;
