//! Makes blobs of uploaded files, so that they need not be read from their image.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use super::{Kept, MARGIN, touch};
use crate::store::Cache;
use crate::{Digest, Error};

impl Cache {
    /// Takes a file that is verified and synced as the blob with this digest. Returns whether the blob is here; the file is left
    /// where it is when it was here already, and when it is larger than the cache, or on another file system.
    pub fn adopt(&self, digest: Digest, file: &Path) -> Result<bool, Error> {
        let (size, used) =
            match File::open(file).and_then(|opened| Ok((opened.metadata()?.len(), touch(&opened, file)))) {
                Ok(found) => found,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(cause) => return Err(Error::cache("look at", file, cause)),
            };
        if self.get(&digest).is_some_and(|blob| blob.size == size) {
            return Ok(true);
        }
        if size > self.limit {
            return Ok(false);
        }
        self.look()?;
        self.trim(size);
        let target = self.path(&digest);
        match fs::rename(file, &target) {
            Ok(()) => {}
            Err(error) if [io::ErrorKind::NotFound, io::ErrorKind::CrossesDevices].contains(&error.kind()) => {
                return Ok(false);
            }
            Err(cause) => return Err(Error::cache("rename to", &target, cause)),
        }
        self.state().remember(digest, Kept::new(size, used));
        self.free(MARGIN, || self.available())?;
        Ok(true)
    }
}
