using Bgsnap.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>
/// A snapshot directory being written. Everything is written to a hidden sibling of the final directory; <see cref="Commit"/> makes all of
/// it durable and gives it its final name in one step. Before that step nothing exists, after it everything does. Disposing without a
/// commit removes it; the next <see cref="Begin"/> in the same place removes what a killed process left.
/// </summary>
public sealed unsafe class SnapshotDirectoryWriter : IDisposable
{
    private const uint FileMode =
            0x180 /* 0600 */
        ,
        DirectoryMode =
            0x1c0 /* 0700 */
    ;

    private readonly SafeFileHandle _parent;
    private readonly SafeFileHandle _directory;
    private readonly string _partialName;
    private readonly string _finalName;
    private readonly Lock _folderLock = new();
    private bool _tried;
    private bool _committed;

    private SnapshotDirectoryWriter(
        SafeFileHandle parent,
        string parentPath,
        SafeFileHandle directory,
        string partialName,
        string finalName
    )
    {
        (_parent, _directory, _partialName, _finalName) = (parent, directory, partialName, finalName);
        Path = System.IO.Path.Join(parentPath, partialName);
        FinalPath = System.IO.Path.Join(parentPath, finalName);
    }

    /// <summary>The hidden directory.</summary>
    public string Path { get; }

    /// <summary>The directory after <see cref="Commit"/>.</summary>
    public string FinalPath { get; }

    /// <summary>Names of the leftovers of dead captures that <see cref="Begin"/> removed.</summary>
    public IReadOnlyList<string> SweptLeftovers { get; private init; } = [];

    /// <summary>Starts a snapshot. Its parent must exist; the path to the parent may contain links, everything below it may not.</summary>
    /// <param name="outputDir">The directory to create.</param>
    /// <exception cref="ArgumentException">The name is missing, hidden, or longer than 220 bytes.</exception>
    /// <exception cref="LinuxException">EEXIST: the name is taken, nothing was written; others: no access.</exception>
    public static SnapshotDirectoryWriter Begin(string outputDir)
    {
        ArgumentException.ThrowIfNullOrEmpty(outputDir);
        string path = System.IO.Path.TrimEndingDirectorySeparator(outputDir);
        string name = System.IO.Path.GetFileName(path);
        if (name.Length == 0 || name[0] == '.' || System.Text.Encoding.UTF8.GetByteCount(name) > 255 - PartialDirectory.NameOverhead)
            throw new ArgumentException(
                $"{outputDir}: the last part must be a name of 1 to 220 bytes that does not begin with a dot",
                nameof(outputDir)
            );
        string parentPath = System.IO.Path.GetDirectoryName(path) is { Length: > 0 } p ? p : ".";

        SafeFileHandle parent = SnapshotFiles.OpenDirectory(null, parentPath);
        try
        {
            if (FileSyscalls.TryStatus(parent, name) is not null)
                throw new LinuxException($"{outputDir} exists already, and nothing was written: choose another name", Errno.EEXIST);
            string boot = PartialDirectory.BootDigits();
            List<string> swept = PartialDirectory.Sweep(parent, boot, DateTimeOffset.UtcNow);
            (SafeFileHandle directory, string partial) = PartialDirectory.Create(parent, name, boot);
            return new SnapshotDirectoryWriter(parent, parentPath, directory, partial, name) { SweptLeftovers = swept };
        }
        catch
        {
            parent.Dispose();
            throw;
        }
    }

    /// <summary>Removes what dead captures left in a directory, as <see cref="Begin"/> does. Running captures are not touched.</summary>
    /// <param name="parentDir">The directory in which snapshots are created.</param>
    /// <returns>Names removed.</returns>
    /// <exception cref="LinuxException">The directory cannot be opened.</exception>
    public static IReadOnlyList<string> SweepLeftovers(string parentDir)
    {
        using SafeFileHandle parent = SnapshotFiles.OpenDirectory(null, parentDir);
        return PartialDirectory.Sweep(parent, PartialDirectory.BootDigits(), DateTimeOffset.UtcNow);
    }

    /// <summary>Creates the page log. Finish and dispose it before <see cref="Commit"/>.</summary>
    /// <inheritdoc cref="PageLogWriter.Create"/>
    public PageLogWriter CreateMemory(IReadOnlyList<RamBlockLayout> blocks, PageCompression compression, Guid id) =>
        PageLogWriter.CreateIn(_directory, FormatV1.MemoryFileName, Display(FormatV1.MemoryFileName), blocks, compression, id);

    /// <summary>
    /// Creates a file (mode 0600) and returns it write-only, as QEMU needs it in an fdset. QEMU may write through its own copy of the
    /// descriptor; all writing must end before <see cref="Commit"/>.
    /// </summary>
    /// <param name="name"><c>device-state</c>, or <c>disks/…</c>, whose folder is created when needed.</param>
    /// <exception cref="ArgumentException">It is not a valid name for a file of a snapshot.</exception>
    /// <exception cref="LinuxException">It exists, or cannot be created.</exception>
    public SafeFileHandle CreateFile(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        if (!ManifestJson.IsFileName(name))
            throw new ArgumentException($"{name} is not a file of a snapshot", nameof(name));
        int slash = name.IndexOf('/', StringComparison.Ordinal);
        // Two disks may begin at the same moment.
        lock (_folderLock)
        {
            if (slash > 0 && FileSyscalls.TryStatus(_directory, name[..slash]) is null)
                FileSyscalls.MakeDirectory(_directory, name[..slash], DirectoryMode);
        }
        return SnapshotFiles.Within(_directory, name, (d, n) => Create(d, n, Display(name)));
    }

    /// <summary>Checks that manifest and page log agree, makes everything durable and gives it its name.</summary>
    /// <param name="manifest">Its <see cref="Manifest.Files"/> may be empty: files that it does not list are added with their checksum. A
    /// listed entry (a large disk already hashed) is kept, and its size is checked.</param>
    /// <returns>The manifest as written.</returns>
    /// <exception cref="InvalidOperationException">It was committed before, or a file is missing or has the wrong size.</exception>
    /// <exception cref="SnapshotCorruptException">The page log does not read back, or differs from the manifest.</exception>
    /// <exception cref="LinuxException">EEXIST: the final name was taken meanwhile; others: I/O. Dispose then removes
    /// everything.</exception>
    public Manifest Commit(Manifest manifest)
    {
        ArgumentNullException.ThrowIfNull(manifest);
        if (_tried)
            throw new InvalidOperationException($"{FinalPath}: commit was already called");
        _tried = true;
        List<string> files = SnapshotFiles.List(_directory, odd => throw new InvalidOperationException($"{Display(odd)} is not a file"));
        manifest = manifest with { Files = Describe(files, manifest) };
        if (ManifestJson.Problem(manifest) is { } problem)
            throw new ArgumentException(problem, nameof(manifest));

        WriteManifest(ManifestJson.Write(manifest));
        foreach (string folder in files.Where(f => f.Contains('/', StringComparison.Ordinal)).Select(f => f.Split('/')[0]).Distinct())
        {
            using SafeFileHandle inner = SnapshotFiles.OpenDirectory(_directory, folder);
            FileSyscalls.Sync(inner, Display(folder));
        }
        FileSyscalls.Sync(_directory, Path);
        FileSyscalls.RenameNoReplaceIn(_parent, _partialName, _finalName);
        try
        {
            FileSyscalls.Sync(_parent, FinalPath);
        }
        catch
        {
            // The name might not survive a crash, so it must not exist now either.
            TryTakeBack();
            throw;
        }
        _committed = true;
        return manifest;
    }

    /// <summary>Without a commit: removes what was written. Never throws for that; the next capture sweeps what is left.</summary>
    public void Dispose()
    {
        if (_directory.IsClosed)
            return;
        if (!_committed)
            _ = PartialDirectory.Remove(_parent, _partialName);
        // Last, because it drops the lock.
        _directory.Dispose();
        _parent.Dispose();
    }

    private void TryTakeBack()
    {
        try
        {
            FileSyscalls.RenameNoReplaceIn(_parent, _finalName, _partialName);
        }
        catch (LinuxException)
        {
            // Report the first error; what is there is complete, but perhaps not durable.
        }
    }

    private List<ManifestFile> Describe(List<string> files, Manifest manifest)
    {
        foreach (string needed in (ReadOnlySpan<string>)[FormatV1.MemoryFileName, FormatV1.DeviceStateFileName])
            if (!files.Contains(needed))
                throw new InvalidOperationException($"{Display(needed)} was not written");
        if (manifest.Files.FirstOrDefault(f => !files.Contains(f.Name)) is { } gone)
            throw new InvalidOperationException($"{Display(gone.Name)} was not written");

        var described = new List<ManifestFile>();
        foreach (string name in files)
        {
            using SafeFileHandle file = SnapshotFiles.OpenRead(_directory, name, Display(name), out long size);
            // Sync before hashing, so that data that cannot be stored is not reported as written.
            FileSyscalls.Sync(file, Display(name));
            if (name == FormatV1.MemoryFileName)
            {
                using PageLogReader log = PageLogReader.OpenIn(_directory, name, Display(name), new PageLogExpectation(manifest.Id, size));
                if (ManifestMemory.Problem(manifest, log.Header, log.Footer) is { } problem)
                    throw new SnapshotCorruptException(Display(name), 0, problem);
                described.Add(new ManifestFile(name, size, log.Checksum));
                continue;
            }
            ManifestFile? given = manifest.Files.FirstOrDefault(f => f.Name == name);
            if (given is not null && given.Size != size)
                throw new InvalidOperationException($"{Display(name)} has {size} bytes, not {given.Size}");
            described.Add(given ?? new ManifestFile(name, size, SnapshotFiles.Checksum(file, size, Display(name))));
        }
        return described;
    }

    private void WriteManifest(byte[] bytes)
    {
        string display = Display(FormatV1.ManifestFileName);
        using SafeFileHandle file = Create(_directory, FormatV1.ManifestFileName, display);
        // SAFETY: pinned for the call, written within its length.
        fixed (byte* p = bytes)
            FileSyscalls.WriteAll(file, p, (nuint)bytes.Length, 0, display);
        FileSyscalls.Sync(file, display);
    }

    private static SafeFileHandle Create(SafeFileHandle directory, string name, string display) =>
        FileSyscalls.OpenAt(
            directory,
            name,
            FileSyscalls.O_WRONLY | FileSyscalls.O_CREAT | FileSyscalls.O_EXCL | FileSyscalls.O_NOFOLLOW,
            FileMode,
            display
        );

    private string Display(string name) => System.IO.Path.Join(Path, name);
}
