//! A folder of its own for a demonstration or a measurement: the saga and the schemas that this program
//! carries in itself, a configuration that names the services, and room for the data.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use crate::cli::participant::Addresses;

/// The files of the repository that are needed, so that the program shows itself anywhere.
const FILES: &[(&str, &str)] = &[
    ("sagas/order-fulfilment.yaml", include_str!("../../../sagas/order-fulfilment.yaml")),
    ("schemas/ops.saga_parked/v1.json", include_str!("../../../schemas/ops.saga_parked/v1.json")),
    ("schemas/order.fulfilled/v1.json", include_str!("../../../schemas/order.fulfilled/v1.json")),
    ("schemas/order.placed/v1.json", include_str!("../../../schemas/order.placed/v1.json")),
    ("schemas/order.placed/v2.json", include_str!("../../../schemas/order.placed/v2.json")),
    ("schemas/order.rejected/v1.json", include_str!("../../../schemas/order.rejected/v1.json")),
    ("schemas/order.shipped/v1.json", include_str!("../../../schemas/order.shipped/v1.json")),
];

/// The folder. Removed when dropped, unless it is kept.
pub struct Workspace {
    path: PathBuf,
    keep: bool,
}

impl Workspace {
    /// Makes the folder below the system's temporary folder.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(name: &str, addresses: &Addresses, more_config: &str) -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("backstitch-{name}-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        let workspace = Self { path, keep: false };
        for (file, text) in FILES {
            let file = workspace.path.join(file);
            if let Some(folder) = file.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::write(file, text)?;
        }
        std::fs::write(workspace.path.join("backstitch.yaml"), config(addresses) + more_config)?;
        Ok(workspace)
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the folder where it is.
    pub fn keep(&mut self) {
        self.keep = true;
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Returns a configuration with the three services.
#[must_use]
pub fn config(addresses: &Addresses) -> String {
    let mut text = String::from("services:\n");
    for (name, address) in
        [("inventory", addresses.inventory), ("payments", addresses.payments), ("shipping", addresses.shipping)]
    {
        let _ = writeln!(text, "  {name}: {{ url: \"http://{address}\", timeout: 2s }}");
    }
    text
}
