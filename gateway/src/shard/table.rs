//! Places for connections, with tokens that are never mistaken for a later connection's.

/// Names a connection of a shard. A place is reused; a token is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    /// The place.
    pub slot: u32,
    /// How often the place was used before.
    pub generation: u32,
}

/// Values by token.
#[derive(Debug)]
pub(crate) struct Table<T> {
    places: Vec<Place<T>>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Place<T> {
    generation: u32,
    value: Option<Box<T>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Table<T> {
    /// Puts `value` in.
    pub(crate) fn insert(&mut self, value: T) -> Token {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, value: None });
            u32::try_from(self.places.len() - 1).expect("fewer connections than 2^32")
        });
        let place = &mut self.places[slot as usize];
        let token = Token { slot, generation: place.generation };
        place.value = Some(Box::new(value));
        token
    }

    /// The value of `token`, if it is still there.
    pub(crate) fn get(&self, token: Token) -> Option<&T> {
        let place = self.places.get(token.slot as usize)?;
        (place.generation == token.generation).then_some(place.value.as_deref()).flatten()
    }

    /// The value of `token`, if it is still there.
    pub(crate) fn get_mut(&mut self, token: Token) -> Option<&mut T> {
        let place = self.places.get_mut(token.slot as usize)?;
        (place.generation == token.generation).then_some(place.value.as_deref_mut()).flatten()
    }

    /// Takes the value of `token` out; its place gets a new generation.
    pub(crate) fn remove(&mut self, token: Token) {
        let Some(place) = self.places.get_mut(token.slot as usize) else { return };
        if place.generation == token.generation && place.value.take().is_some() {
            place.generation = place.generation.wrapping_add(1);
            self.free.push(token.slot);
        }
    }

    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// All tokens, in the order of their places.
    pub(crate) fn tokens(&self) -> Vec<Token> {
        let tokens = (0u32..).zip(&self.places).filter(|(_, place)| place.value.is_some());
        tokens.map(|(slot, place)| Token { slot, generation: place.generation }).collect()
    }
}
