//! `novacron cluster`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use novacron_protocol::api::TokenCreate;
use novacron_protocol::backup::{BACKUP_PURPOSE, BackupError, BackupHead, BackupReader, PartKind};
use novacron_sdk::Client;
use novacron_vault::{EncryptedWriter, Salt, Vault, VaultKey};

use super::secret;
use crate::args::{ClusterCommand, ClusterRestore};
use crate::dev;
use crate::failure::Failure;
use crate::output::{Printer, notice};

/// Only its owner reads a backup, encrypted or not.
const FILE_MODE: u32 = 0o600;

/// `novacron cluster`; `connect` makes the client of those that need one.
///
/// # Errors
/// Why it did not work.
pub fn run(
    command: &ClusterCommand,
    connect: impl FnOnce() -> Result<Client, Failure>,
    printer: Printer,
) -> Result<(), Failure> {
    match command {
        ClusterCommand::Show => printer.one(&connect()?.cluster()?),
        ClusterCommand::Status => printer.one(&connect()?.cluster_status()?),
        ClusterCommand::Set(set) => printer.one(&connect()?.settings_change(&set.request())?),
        ClusterCommand::Add { name, ttl } => add(name, ttl.as_secs(), &connect()?, printer),
        ClusterCommand::Remove { member } => {
            let view = connect()?.member_remove(*member)?;
            notice(&format!("member {member} is removed; its data directory is of no more use"));
            printer.one(&view)
        }
        ClusterCommand::Backup { file, key_file } => backup(file, key_file, &connect()?, printer),
        ClusterCommand::Restore(asked) => restore(asked),
        ClusterCommand::RotateKey { wait } => secret::rotate_key(*wait, &connect()?, printer),
        ClusterCommand::Key { file } => make_key(file),
    }
}

fn add(name: &str, ttl_seconds: u64, client: &Client, printer: Printer) -> Result<(), Failure> {
    let (role, name) = ("coordinator".to_owned(), name.to_owned());
    let create = TokenCreate {
        role,
        name: Some(name.clone()),
        access: None,
        ttl_seconds: Some(ttl_seconds),
    };
    let view = client.token_create(&create)?;
    printer.one(&view)?;
    if let Some(address) = view.coordinators.first().filter(|_| printer.is_for_people()) {
        notice(&format!(
            "on its host, with `name = \"{name}\"` in its configuration and an empty data directory, run \
             `novacron-coordinator join --config FILE --token TOKEN --coordinator {address}`, then `serve`"
        ));
    }
    Ok(())
}

fn make_key(file: &Path) -> Result<(), Failure> {
    let key = VaultKey::generate().map_err(|error| Failure::io("cannot make a key", &error))?;
    key.save_new(file).map_err(|error| Failure::io("cannot keep the key", &error))?;
    notice(&format!(
        "key {} is in {}: keep a copy where the backups are not; without it they cannot be read",
        key.id(),
        file.display()
    ));
    Ok(())
}

/// The file gets its name when it is whole and durable: what breaks off leaves none.
fn backup(file: &Path, key_file: &Path, client: &Client, printer: Printer) -> Result<(), Failure> {
    if file.exists() {
        return Err(Failure::usage(format!(
            "{} exists: a backup replaces no file",
            file.display()
        )));
    }
    let key = VaultKey::load(key_file)
        .map_err(|error| Failure::io("the backup cannot be encrypted", &error))?;
    let partial = with_suffix(file, ".partial");
    let written = write(&partial, key, client).and_then(|head| {
        let named = fs::rename(&partial, file).and_then(|()| sync_directory_of(file));
        named.map_err(cannot_write(file))?;
        Ok(head)
    });
    match written {
        Ok(head) => {
            printer.one(&head)?;
            notice(&format!(
                "check it with `novacron cluster restore --check --from {} --key-file {}`",
                file.display(),
                key_file.display()
            ));
            Ok(())
        }
        Err(failure) => {
            // Best effort: the next attempt writes over it.
            let _ = fs::remove_file(&partial);
            Err(failure)
        }
    }
}

fn write(partial: &Path, key: VaultKey, client: &Client) -> Result<BackupHead, Failure> {
    let encrypt = |error| Failure::io("the backup cannot be encrypted", &error);
    let vault = Vault::new(BACKUP_PURPOSE, vec![key]).map_err(encrypt)?;
    let salt = Salt::draw().map_err(encrypt)?;
    let reader = client.backup()?;
    let mut options = OpenOptions::new();
    let made = options.write(true).create(true).truncate(true).mode(FILE_MODE).open(partial);
    let made = BufWriter::new(made.map_err(cannot_write(partial))?);
    let writer = EncryptedWriter::new(made, &vault, salt, b"").map_err(cannot_write(partial))?;
    let (writer, head) = copy(Copying { reader, writer, written: Ok(()) }, partial)?;
    let file = writer.finish().map_err(cannot_write(partial))?;
    let file = file.into_inner().map_err(|error| cannot_write(partial)(error.into_error()))?;
    file.sync_all().map_err(cannot_write(partial))?;
    Ok(head)
}

/// What is read is written at the same time.
struct Copying<R, W> {
    reader: R,
    writer: W,
    written: io::Result<()>,
}

impl<R: Read, W: Write> Read for Copying<R, W> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.reader.read(buffer)?;
        if let Err(error) = self.writer.write_all(&buffer[..bytes]) {
            let kind = error.kind();
            self.written = Err(error);
            return Err(kind.into());
        }
        Ok(bytes)
    }
}

/// Copies a whole backup, and looks that it is one.
fn copy<R: Read, W: Write>(
    copying: Copying<R, W>,
    partial: &Path,
) -> Result<(W, BackupHead), Failure> {
    let mut backup = BackupReader::new(copying).map_err(broken_off)?;
    let mut head = None;
    loop {
        match backup.next_part() {
            Ok(Some(part)) if part.kind == PartKind::Head => head = Some(part.content),
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(error) => {
                backup.into_inner().written.map_err(cannot_write(partial))?;
                return Err(broken_off(error));
            }
        }
    }
    let head = serde_json::from_slice(&head.unwrap_or_default())
        .map_err(|error| Failure::io("the backup cannot be understood", &error))?;
    Ok((backup.into_inner().writer, head))
}

fn broken_off(error: BackupError) -> Failure {
    Failure::io("the backup broke off", &error)
        .hint("try again, perhaps at another coordinator: `--endpoint URL`")
}

fn cannot_write(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let what = format!("cannot write {}", path.display());
    move |error| Failure::io(what, &error)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn sync_directory_of(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

/// The data directory is the coordinator's business, so its program does it; it says itself what is wrong.
fn restore(asked: &ClusterRestore) -> Result<(), Failure> {
    let program = dev::coordinator_program();
    let mut command = Command::new(&program);
    command.arg("restore").arg("--from").arg(&asked.from).arg("--key-file").arg(&asked.key_file);
    match &asked.coordinator_config {
        Some(config) => command.arg("--config").arg(config),
        None => command.arg("--check"),
    };
    let status = command
        .status()
        .map_err(|error| Failure::io(format!("cannot run {}", program.display()), &error))?;
    if status.success() { Ok(()) } else { Err(Failure::failed("nothing was restored")) }
}
