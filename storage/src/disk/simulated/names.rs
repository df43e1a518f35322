//! The names of a simulated disk: as programs see them, and as the platter has them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::FileId;
use crate::disk::dice::Dice;

#[derive(Debug, Clone)]
pub(super) enum NameChange {
    Link { path: PathBuf, id: FileId },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf, id: FileId },
}

impl NameChange {
    fn directory(&self) -> Option<&Path> {
        match self {
            NameChange::Link { path, .. } | NameChange::Unlink { path } => path.parent(),
            NameChange::Rename { to, .. } => to.parent(),
        }
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, FileId>) {
        match self {
            NameChange::Link { path, id } => {
                names.insert(path.clone(), *id);
            }
            NameChange::Unlink { path } => {
                names.remove(path);
            }
            NameChange::Rename { from, to, id } => {
                names.remove(from);
                names.insert(to.clone(), *id);
            }
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Names {
    current: BTreeMap<PathBuf, FileId>,
    durable: BTreeMap<PathBuf, FileId>,
    /// Done since the last sync of their directory, in order.
    unsynced: Vec<NameChange>,
}

impl Names {
    pub(super) fn find(&self, path: &Path) -> Option<FileId> {
        self.current.get(path).copied()
    }

    pub(super) fn list(&self, directory: &Path) -> Vec<String> {
        let inside = self.current.keys().filter(|path| path.parent() == Some(directory));
        inside.filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect()
    }

    pub(super) fn all(&self) -> BTreeSet<FileId> {
        self.current.values().copied().collect()
    }

    pub(super) fn apply(&mut self, change: NameChange) {
        change.apply(&mut self.current);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self, directory: &Path) {
        let (synced, rest): (Vec<_>, Vec<_>) =
            self.unsynced.drain(..).partition(|change| change.directory() == Some(directory));
        for change in synced {
            change.apply(&mut self.durable);
        }
        self.unsynced = rest;
    }

    /// Decides which names the platter has when the power returns.
    pub(super) fn survive_power_cut(&mut self, dice: &mut Dice) {
        for change in self.unsynced.drain(..) {
            if dice.coin() {
                change.apply(&mut self.durable);
            }
        }
        self.current = self.durable.clone();
    }
}
