//! The tables of a checkpoint.

/// A table. Its number is part of the checksum: new ones go to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Slot: the session's head.
    Sessions,
    /// Slot and filter: options and identifier.
    Subscriptions,
    /// Slot and chunk: references.
    Owed,
    /// Slot and reference: a retained message that answered a subscription.
    Answers,
    /// Topic: the retained message.
    Retained,
    /// Epoch: a will that waits.
    Wills,
    /// Node number: parent and level.
    Topics,
    /// Page number: buckets of some nodes.
    Rates,
    /// When the topic tree was last swept; one row.
    Sweep,
    /// The counters; one row.
    Counters,
    /// Node: start epoch of its process.
    Nodes,
    /// Number of a group: its head.
    Groups,
    /// Number of a group and chunk: references.
    GroupOwed,
    /// Number of a group and slot: what the session holds.
    GroupHeld,
    /// The access rules; one row, or none if there never were any.
    Access,
}

impl Table {
    /// All tables, in the order in which they are loaded.
    pub const ALL: [Self; 15] = [
        Self::Sessions,
        Self::Subscriptions,
        Self::Owed,
        Self::Answers,
        Self::Retained,
        Self::Wills,
        Self::Topics,
        Self::Rates,
        Self::Sweep,
        Self::Counters,
        Self::Nodes,
        Self::Groups,
        Self::GroupOwed,
        Self::GroupHeld,
        Self::Access,
    ];

    /// The table of this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|table| *table as u8 == number)
    }

    /// Its place in [`Table::ALL`].
    pub(crate) fn place(self) -> usize {
        self as usize
    }

    /// Name in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sessions => "sessions",
            Self::Subscriptions => "subscriptions",
            Self::Owed => "owed",
            Self::Answers => "answers",
            Self::Retained => "retained",
            Self::Wills => "wills",
            Self::Topics => "topics",
            Self::Rates => "rates",
            Self::Sweep => "sweep",
            Self::Counters => "counters",
            Self::Nodes => "nodes",
            Self::Groups => "groups",
            Self::GroupOwed => "group_owed",
            Self::GroupHeld => "group_held",
            Self::Access => "access",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_stand_in_the_order_of_their_numbers() {
        for (place, table) in Table::ALL.into_iter().enumerate() {
            assert_eq!(table.place(), place);
            assert_eq!(Table::from_number(table as u8), Some(table));
        }
        assert_eq!(Table::from_number(15), None);
    }
}
