//! What is kept of an ACME account: its key and its certificate, for nobody else to read.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The folder of one authority.
pub(super) struct Storage {
    folder: PathBuf,
}

impl Storage {
    /// The folder for an authority below `base`, made if it is not there. What one authority gave
    /// is of no use at another.
    ///
    /// # Errors
    /// If the folder cannot be made.
    pub(super) fn open(base: &Path, directory: &str) -> io::Result<Self> {
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' };
        let name: String = directory.trim_start_matches("https://").chars().map(plain).collect();
        // A name of dots alone would lead elsewhere.
        let folder = base.join(format!("at-{name}"));
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder })
    }

    /// Where a file is.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// What is in a file; `None` if it is not there.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub(super) fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    /// Puts a file there, whole or not at all, that only the owner may read (mode 0600).
    ///
    /// # Errors
    /// If it cannot be written.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let beside = self.path(&format!("{name}.new"));
        // One that is left from before may have other rights.
        if let Err(fault) = fs::remove_file(&beside)
            && fault.kind() != io::ErrorKind::NotFound
        {
            return Err(fault);
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, self.path(name))
    }

    /// Takes a file away.
    ///
    /// # Errors
    /// If it is there and stays there.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_kept_is_for_nobody_else_to_read() {
        let base = tempfile::TempDir::new().unwrap();
        let kept = Storage::open(&base.path().join("a/b"), "https://ca.example:14000/dir").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(kept.folder, base.path().join("a/b/at-ca.example_14000_dir"));
        assert_eq!(mode(&kept.folder), 0o700);
        assert_eq!(kept.read("key").unwrap(), None);
        fs::write(kept.path("key.new"), "left over").unwrap();
        kept.write("key", b"secret").unwrap();
        kept.write("key", b"another").unwrap();
        assert_eq!(mode(&kept.path("key")), 0o600);
        assert_eq!(kept.read("key").unwrap().unwrap(), b"another");
        assert!(!kept.path("key.new").exists());
        kept.remove("key").unwrap();
        assert_eq!(kept.read("key").unwrap(), None);
    }

    #[test]
    fn no_directory_leads_out_of_the_folder() {
        let base = tempfile::TempDir::new().unwrap();
        let kept = Storage::open(base.path(), "https://../../etc").unwrap();
        assert_eq!(kept.folder.parent(), Some(base.path()));
        assert_eq!(
            Storage::open(base.path(), "https://..").unwrap().folder,
            base.path().join("at-..")
        );
    }
}
