//! Images, and the disks that start as copies of them. The work is qemu-img's.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use novacron_protocol::limits::DISK_BLOCK_BYTES;
use novacron_protocol::vm::{DiskFormat, DiskSpec};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::process::Command;

use super::extents::Extents;
use super::record::Disk;

/// Names listed when an image is missing.
const LISTED_MAX: usize = 20;

/// Endings of image files, in the order in which they are tried.
const ENDINGS: [&str; 3] = ["qcow2", "raw", "img"];

/// Why a disk cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// There is no such image.
    #[error("image: there is no `{image}` in {} on this node; {}", directory.display(), listed(there))]
    Missing {
        /// The image.
        image: String,
        /// Where images are.
        directory: PathBuf,
        /// What is there.
        there: Vec<String>,
    },
    /// The image does not fit.
    #[error("disk: {size_bytes} bytes are less than the {image_bytes} bytes of image `{image}`")]
    TooSmall {
        /// The image.
        image: String,
        /// Bytes of the image.
        image_bytes: u64,
        /// Bytes asked for.
        size_bytes: u64,
    },
    /// The image refers to other files, which its copy on another host would not have.
    #[error("image: `{image}` has a backing or data file; flatten it with `qemu-img convert`")]
    NotWhole {
        /// The image.
        image: String,
    },
    /// qemu-img cannot be run.
    #[error("{} cannot be run; install qemu-utils or set qemu_img_binary", binary.display())]
    NoTool {
        /// The program.
        binary: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// qemu-img said no.
    #[error("qemu-img {verb} failed: {message}")]
    Refused {
        /// What was asked.
        verb: &'static str,
        /// What it said.
        message: String,
    },
}

fn listed(there: &[String]) -> String {
    if there.is_empty() {
        return "the directory has no .qcow2, .raw or .img file".to_owned();
    }
    let more = if there.len() > LISTED_MAX { ", …" } else { "" };
    format!("there are: {}{more}", there[..there.len().min(LISTED_MAX)].join(", "))
}

/// Makes disks.
#[derive(Debug, Clone)]
pub struct DiskMaker {
    /// The program.
    pub qemu_img: PathBuf,
    /// Where images are.
    pub images: PathBuf,
}

/// What qemu-img says of a file.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct ImageInfo {
    virtual_size: u64,
    format: String,
    backing_filename: Option<String>,
    data_file: Option<String>,
    #[serde(default)]
    snapshots: Vec<InnerSnapshot>,
}

/// A snapshot within a file.
#[derive(Debug, Deserialize)]
struct InnerSnapshot {
    name: String,
}

/// A part of a disk, as qemu-img sees it.
#[derive(Debug, Deserialize)]
struct Part {
    start: u64,
    length: u64,
    zero: bool,
    data: bool,
}

/// An image that was found and looked at.
struct Image {
    path: PathBuf,
    info: ImageInfo,
}

impl DiskMaker {
    /// Makes the disk that `spec` asks for at `path`.
    ///
    /// # Errors
    /// [`ImageError`].
    pub async fn make(&self, spec: &DiskSpec, path: &Path) -> Result<Disk, ImageError> {
        if spec.image.is_empty() {
            return self.make_blank(spec.size_bytes, spec.format, path).await;
        }
        let image = self.find(&spec.image).await?;
        let size_bytes = copied_size(spec, &image)?;
        self.copy(&image, spec.format, path).await?;
        if size_bytes > image.info.virtual_size {
            let size = size_bytes.to_string();
            self.run("resize", &["-q", "-f", format_name(spec.format)], &[path], &[&size]).await?;
        }
        Ok(Disk { size_bytes, format: spec.format })
    }

    /// Makes a disk of zeros, sparse.
    ///
    /// # Errors
    /// [`ImageError`].
    pub async fn make_blank(
        &self,
        size_bytes: u64,
        format: DiskFormat,
        path: &Path,
    ) -> Result<Disk, ImageError> {
        let size = size_bytes.to_string();
        self.run("create", &["-q", "-f", format_name(format)], &[path], &[&size]).await?;
        Ok(Disk { size_bytes, format })
    }

    /// Makes the disk of a machine that arrives from the image `name` of this host, as what it begins with.
    ///
    /// # Errors
    /// [`ImageError`].
    pub async fn make_as(&self, disk: Disk, name: &str, path: &Path) -> Result<(), ImageError> {
        let (image, size_bytes) = (name.to_owned(), disk.size_bytes);
        self.make(&DiskSpec { size_bytes, image, format: disk.format }, path).await.map(drop)
    }

    /// Whether a file, which nobody has open, can be written as this disk: that it has its size, and that qcow2's notes
    /// of what is where agree. Otherwise QEMU might put new content where other content is. Clusters that nobody refers
    /// to are in nobody's way.
    ///
    /// # Errors
    /// [`ImageError`]; it is no such disk then, either.
    pub async fn is_sound(&self, disk: Disk, path: &Path) -> Result<bool, ImageError> {
        let size_bytes = self.info(path, format_name(disk.format)).await?.virtual_size;
        let has_notes = disk.format == DiskFormat::Qcow2;
        Ok(size_bytes == disk.size_bytes && (!has_notes || self.check(path, "qcow2").await?))
    }

    /// Where on a disk, which nobody has open, there is data.
    ///
    /// # Errors
    /// [`ImageError`].
    pub async fn extents(&self, path: &Path, format: DiskFormat) -> Result<Extents, ImageError> {
        let options = ["-f", format_name(format), "--output=json"];
        let output = self.run("map", &options, &[path], &[]).await?;
        let parts: Vec<Part> = understood("map", &output)?;
        let mut extents = Extents::default();
        for part in parts.iter().filter(|part| part.data && !part.zero) {
            extents.add(part.start, part.length);
        }
        Ok(extents)
    }

    /// Makes a snapshot within a qcow2 file, which nobody has open.
    ///
    /// # Errors
    /// [`ImageError`].
    pub async fn take_snapshot(&self, path: &Path, name: &str) -> Result<(), ImageError> {
        self.run("snapshot", &["-q", "-c", name], &[path], &[]).await.map(drop)
    }

    /// Makes the content of a qcow2 file, which nobody has open, what it was. Safe to do twice.
    ///
    /// # Errors
    /// [`ImageError`].
    pub async fn restore_snapshot(&self, path: &Path, name: &str) -> Result<(), ImageError> {
        self.run("snapshot", &["-q", "-a", name], &[path], &[]).await.map(drop)
    }

    /// Removes a snapshot from a qcow2 file, which nobody has open, if it is there.
    ///
    /// # Errors
    /// [`ImageError`].
    pub async fn forget_snapshot(&self, path: &Path, name: &str) -> Result<(), ImageError> {
        if self.has_snapshot(path, name).await? {
            self.run("snapshot", &["-q", "-d", name], &[path], &[]).await?;
        }
        Ok(())
    }

    /// Whether a snapshot is in a qcow2 file, which nobody has open.
    ///
    /// # Errors
    /// [`ImageError`].
    pub async fn has_snapshot(&self, path: &Path, name: &str) -> Result<bool, ImageError> {
        let info = self.info(path, "qcow2").await?;
        Ok(info.snapshots.iter().any(|snapshot| snapshot.name == name))
    }

    async fn copy(&self, image: &Image, format: DiskFormat, path: &Path) -> Result<(), ImageError> {
        let options = ["-q", "-f", &image.info.format, "-O", format_name(format)];
        self.run("convert", &options, &[&image.path, path], &[]).await.map(drop)
    }

    async fn find(&self, name: &str) -> Result<Image, ImageError> {
        let candidates = ENDINGS.map(|ending| self.images.join(format!("{name}.{ending}")));
        let Some(path) = candidates.into_iter().find(|path| path.is_file()) else {
            return Err(self.missing(name));
        };
        // The ending decides between raw and qcow2: the content of a raw image may look like anything.
        let is_qcow2 = path.extension().is_some_and(|ending| ending == "qcow2");
        let format = if is_qcow2 { "qcow2" } else { "raw" };
        let info = self.info(&path, format).await?;
        if info.backing_filename.is_some() || info.data_file.is_some() {
            return Err(ImageError::NotWhole { image: name.to_owned() });
        }
        Ok(Image { path, info })
    }

    async fn info(&self, path: &Path, format: &str) -> Result<ImageInfo, ImageError> {
        let output = self.run("info", &["-f", format, "--output=json"], &[path], &[]).await?;
        understood("info", &output)
    }

    async fn check(&self, path: &Path, format: &str) -> Result<bool, ImageError> {
        /// Exit code: there are clusters that nobody refers to, and no other problem.
        const LEAKS_ONLY: i32 = 3;
        let mut check = Command::new(&self.qemu_img);
        check.args(["check", "-q", "-f", format, "--"]).arg(path);
        // It says a line for each problem, of which there may be one per cluster.
        check.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let checked = check.kill_on_drop(true).status().await;
        let checked = checked.map_err(|source| self.no_tool(source))?;
        Ok(checked.success() || checked.code() == Some(LEAKS_ONLY))
    }

    fn no_tool(&self, source: io::Error) -> ImageError {
        ImageError::NoTool { binary: self.qemu_img.clone(), source }
    }

    fn missing(&self, image: &str) -> ImageError {
        let entries = std::fs::read_dir(&self.images).into_iter().flatten().flatten();
        let mut there: Vec<String> = entries
            .map(|entry| PathBuf::from(entry.file_name()))
            .filter(|name| name.extension().is_some_and(|end| ENDINGS.iter().any(|e| end == *e)))
            .filter_map(|name| Some(name.file_stem()?.to_string_lossy().into_owned()))
            .collect();
        there.sort();
        there.dedup();
        ImageError::Missing { image: image.to_owned(), directory: self.images.clone(), there }
    }

    async fn run(
        &self,
        verb: &'static str,
        options: &[&str],
        files: &[&Path],
        last: &[&str],
    ) -> Result<Vec<u8>, ImageError> {
        let output = Command::new(&self.qemu_img)
            .arg(verb)
            .args(options)
            .arg("--")
            .args(files)
            .args(last)
            .kill_on_drop(true)
            .output()
            .await
            .map_err(|source| self.no_tool(source))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(ImageError::Refused { verb, message })
    }
}

/// What qemu-img said, as far as it is needed.
fn understood<T: DeserializeOwned>(verb: &'static str, output: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(output)
        .map_err(|error| ImageError::Refused { verb, message: error.to_string() })
}

fn copied_size(spec: &DiskSpec, image: &Image) -> Result<u64, ImageError> {
    let image_bytes = image.info.virtual_size;
    if spec.size_bytes == 0 {
        return Ok(image_bytes.next_multiple_of(DISK_BLOCK_BYTES));
    }
    if spec.size_bytes < image_bytes {
        let (image, size_bytes) = (spec.image.clone(), spec.size_bytes);
        return Err(ImageError::TooSmall { image, image_bytes, size_bytes });
    }
    Ok(spec.size_bytes)
}

/// QEMU's name of a format.
pub(super) fn format_name(format: DiskFormat) -> &'static str {
    match format {
        DiskFormat::Qcow2 => "qcow2",
        DiskFormat::Raw => "raw",
    }
}
