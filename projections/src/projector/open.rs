//! From a checkpoint to a projector: load, or begin anew.

use ledgermq_core::offset::{Index, Timestamp};

use crate::checkpoint::{Meta, Store, StoreError, VERSION};
use crate::projector::cut::Cut;
use crate::projector::install::Install;
use crate::projector::lead::Lead;
use crate::projector::rules::Wanted;
use crate::projector::{Append, Asked, Options, Projector, Started};
use crate::reader::Reader;
use crate::views::Views;
use crate::views::rows::Loader;

/// The projections cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store cannot be read.
    #[error("cannot open the projections")]
    Store(#[from] StoreError),
    /// The views would have to be folded from the log's beginning, which is gone.
    #[error(
        "{reason}, and the log begins at index {first}: the projections cannot be rebuilt. Restore \
         the checkpoint file from a backup taken together with the log"
    )]
    HistoryGone {
        /// First index of the log.
        first: Index,
        /// Why the checkpoint does not serve.
        reason: String,
    },
}

impl Projector {
    /// Loads the checkpoint in `store`. If there is none, or it is damaged, of another version or
    /// not of this log, the views begin empty and are folded from the log's beginning. Where that is
    /// gone, a snapshot that was taken in beside `store` takes its place: the process ended when the log
    /// had jumped and the projections had not.
    ///
    /// `first` and `last` are the first and the last index of the log. What is in a checkpoint was
    /// committed; one of several members may not know any more that it was.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(
        options: Options,
        store: &mut dyn Store,
        first: Index,
        last: Index,
    ) -> Result<Self, OpenError> {
        let (mut views, kept_upto) = match load_fitting(&options, store, first, last) {
            Ok(Some((meta, views))) => (views, meta.kept_upto),
            Ok(None) => (Views::new(options.limits), 0),
            Err(Unfit::Store(error)) => return Err(error.into()),
            Err(Unfit::Rebuild(reason)) => {
                if first > 1 {
                    return Err(OpenError::HistoryGone { first, reason });
                }
                tracing::warn!(reason, "the projections are rebuilt from the log's beginning");
                store.clear()?;
                (Views::new(options.limits), 0)
            }
        };
        // Whatever is there was not needed, or is of no use.
        store.beside().discard()?;
        let kept = store.kept_offsets()?.into_iter().collect();
        views.set_kept(kept_upto);
        let checkpointed = views.applied();
        Ok(Self {
            options,
            reader: Reader::new(views, store.kept()),
            is_log_told: false,
            started: Started::No,
            append: Append::Idle,
            asked: Asked::No,
            lead: Lead::default(),
            rules: Wanted::default(),
            next_due: Timestamp(0),
            saving: None,
            is_save_running: false,
            next_checkpoint: Timestamp(0),
            checkpointed,
            purge_wanted: None,
            is_keep_running: false,
            next_keep: Timestamp(0),
            kept,
            kept_upto,
            next_sweep: Timestamp(0),
            cut: Cut::default(),
            install: Install::default(),
        })
    }
}

/// Why there are no views of the checkpoint.
enum Unfit {
    /// Because the storage refuses.
    Store(StoreError),
    /// Because of the checkpoint.
    Rebuild(String),
}

impl From<StoreError> for Unfit {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged(_) => Self::Rebuild(error.to_string()),
            StoreError::Storage(_) => Self::Store(error),
        }
    }
}

/// The checkpoint, or where it cannot be gone on from the snapshot beside it.
fn load_fitting(
    options: &Options,
    store: &mut dyn Store,
    first: Index,
    last: Index,
) -> Result<Option<(Meta, Views)>, Unfit> {
    let unfit = match load(options, store, first, last) {
        Err(Unfit::Rebuild(reason)) if first > 1 => reason,
        result => return result,
    };
    let fits =
        |meta: &Meta| meta.version == VERSION && meta.applied + 1 >= first && meta.applied <= last;
    let Some(meta) = store.beside().meta()?.filter(fits) else {
        return Err(Unfit::Rebuild(unfit));
    };
    tracing::info!(applied = meta.applied, "a snapshot that was taken in is put in place");
    store.take_place()?;
    load(options, store, first, last)
}

fn load(
    options: &Options,
    store: &mut dyn Store,
    first: Index,
    last: Index,
) -> Result<Option<(Meta, Views)>, Unfit> {
    let Some(meta) = store.meta()? else {
        if first > 1 {
            return Err(Unfit::Rebuild("there is no checkpoint".to_owned()));
        }
        return Ok(None);
    };
    let Meta { version, applied, .. } = meta;
    let unfit = |reason: String| Err(Unfit::Rebuild(reason));
    if version != VERSION {
        return unfit(format!("the checkpoint has version {version}, this program {VERSION}"));
    }
    if applied > last {
        return unfit(format!("the checkpoint ({applied}) is ahead of the log ({last})"));
    }
    if applied + 1 < first {
        return unfit(format!("the checkpoint ends at index {applied}"));
    }
    let mut loader = Loader::new(options.limits);
    store.load(&mut |table, key, value| loader.row(table, key, value))?;
    Ok(Some((meta, loader.finish(&meta)?)))
}
