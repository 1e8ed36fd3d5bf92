//! Events folded into what we want to ask.
