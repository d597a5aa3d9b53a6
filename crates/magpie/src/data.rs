//! The folder for what lasts: who holds it, and the secret that digests of keys are made with.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use policy::Settings;
use policy::key::{Pepper, sha256};

use crate::log::note;

/// The variable that holds the secret of several Magpies that share keys.
const SECRET: &str = "MAGPIE_SECRET";
/// Characters of a secret that is set from outside.
const SHORTEST_SECRET: usize = 32;

/// The folder, held by this process alone.
pub(crate) struct Data {
    folder: PathBuf,
    _lock: File,
}

impl Data {
    /// Opens the folder and takes hold of it; makes it if it is not there.
    ///
    /// Without a folder of the owner's choice one that cannot be used is done without, which is
    /// said: nothing then lasts longer than the process.
    ///
    /// # Errors
    /// If the owner named the folder and it cannot be used.
    pub(crate) fn open(settings: &Settings) -> Result<Option<Self>, String> {
        let Some(folder) = &settings.data else {
            note("no folder to keep anything in (set `data`): nothing is recorded");
            return Ok(None);
        };
        match hold(folder) {
            Ok(lock) => Ok(Some(Self { folder: folder.clone(), _lock: lock })),
            Err(why) if settings.data_named => Err(why),
            Err(why) => {
                note(&format!("{why}; nothing is recorded (set `data` to another folder)"));
                Ok(None)
            }
        }
    }

    /// The folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file or folder in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn hold(folder: &Path) -> Result<File, String> {
    let shown = folder.display();
    make(folder)?;
    let lock = own_file(&folder.join("lock"));
    let lock = lock.map_err(|fault| format!("the folder {shown} cannot be written to: {fault}"))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(format!("another Magpie uses the folder {shown}")),
        Err(TryLockError::Error(fault)) => Err(format!("{shown} cannot be locked: {fault}")),
    }
}

/// The secret that digests of keys are made with: from the environment, else from the data folder,
/// where it is made at the first start; without either, one for this process.
///
/// # Errors
/// If it is too short, or cannot be read or written.
pub(crate) fn pepper(data: Option<&Path>) -> Result<Pepper, String> {
    if let Ok(secret) = std::env::var(SECRET) {
        if secret.trim().chars().count() < SHORTEST_SECRET {
            return Err(format!("{SECRET} is shorter than {SHORTEST_SECRET} characters"));
        }
        return Ok(Pepper::new(sha256(secret.trim().as_bytes())));
    }
    match data {
        Some(folder) => kept(&folder.join("secret"))
            .map(Pepper::new)
            .map_err(|fault| format!("{}: {fault}", folder.join("secret").display())),
        None => random().map(Pepper::new).map_err(|fault| fault.to_string()),
    }
}

/// Reads the secret, or makes it. Of two who make it at once, one wins and both have it.
fn kept(path: &Path) -> io::Result<[u8; 32]> {
    let mut text = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut text)?,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
            let secret = random()?;
            let draft = path.with_extension(format!("{}", std::process::id()));
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(&secret)?;
            file.sync_all()?;
            let linked = fs::hard_link(&draft, path);
            fs::remove_file(&draft)?;
            match linked {
                Err(fault) if fault.kind() != io::ErrorKind::AlreadyExists => return Err(fault),
                _ => return kept(path),
            }
        }
        Err(fault) => return Err(fault),
    };
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "not the 32 bytes that it has to be");
    text.try_into().map_err(|_| odd())
}

/// Makes the folder, if it is not there, for its owner alone.
///
/// # Errors
/// A sentence, if it cannot be made.
pub(crate) fn make(folder: &Path) -> Result<(), String> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|fault| format!("the folder {} cannot be made: {fault}", folder.display()))
}

/// Makes a file, if it is not there, for its owner alone.
///
/// # Errors
/// A sentence, if it cannot be made.
pub(crate) fn touch(path: &Path) -> Result<(), String> {
    let made = own_file(path).map(|_| ());
    made.map_err(|fault| format!("{} cannot be written: {fault}", path.display()))
}

/// A file to write to, as it is there or new, for its owner alone.
fn own_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Bytes that nobody can guess.
///
/// # Errors
/// If the system has none.
pub(crate) fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no random numbers"))?;
    Ok(bytes)
}
