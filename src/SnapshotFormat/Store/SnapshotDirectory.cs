using Microsoft.Win32.SafeHandles;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>A finished snapshot, opened for reading. Nothing in it is trusted before it is checked.</summary>
public sealed class SnapshotDirectory : IDisposable
{
    private readonly SafeFileHandle _directory;

    private SnapshotDirectory(SafeFileHandle directory, string path, Manifest manifest) =>
        (_directory, Path, Manifest) = (directory, path, manifest);

    /// <summary>The directory, as given.</summary>
    public string Path { get; }

    /// <summary>The checked manifest.</summary>
    public Manifest Manifest { get; }

    /// <summary>Path of the device state. Only <see cref="ReadDeviceState"/> checks its content.</summary>
    public string DeviceStatePath => Display(FormatV1.DeviceStateFileName);

    /// <summary>Opens a snapshot and reads its manifest.</summary>
    /// <exception cref="SnapshotCorruptException">The manifest is damaged or of an unknown form.</exception>
    /// <exception cref="Linux.LinuxException">The directory does not exist, or is not accessible.</exception>
    public static SnapshotDirectory Open(string dir)
    {
        ArgumentException.ThrowIfNullOrEmpty(dir);
        SafeFileHandle directory = SnapshotFiles.OpenDirectory(null, dir);
        try
        {
            string display = System.IO.Path.Join(dir, FormatV1.ManifestFileName);
            byte[] bytes = SnapshotFiles.ReadSmall(directory, FormatV1.ManifestFileName, display, FormatV1.MaxManifestSize);
            return new SnapshotDirectory(directory, dir, ManifestJson.Read(bytes, display));
        }
        catch
        {
            directory.Dispose();
            throw;
        }
    }

    /// <summary>Opens the page log and checks that the manifest describes it.</summary>
    /// <exception cref="SnapshotCorruptException">It is damaged, or not the one in the manifest.</exception>
    /// <exception cref="Linux.LinuxException">It cannot be read.</exception>
    public PageLogReader OpenMemory()
    {
        ManifestFile file = Listed(FormatV1.MemoryFileName);
        string display = Display(FormatV1.MemoryFileName);
        PageLogReader log = PageLogReader.OpenIn(
            _directory,
            FormatV1.MemoryFileName,
            display,
            new PageLogExpectation(Manifest.Id, file.Size, file.Checksum)
        );
        if (ManifestMemory.Problem(Manifest, log.Header, log.Footer) is not { } problem)
            return log;
        log.Dispose();
        throw new SnapshotCorruptException(display, 0, problem);
    }

    /// <summary>The device state, as QEMU wrote it, checked against the manifest. At most 1 GiB.</summary>
    /// <exception cref="SnapshotCorruptException">It is damaged or too long.</exception>
    /// <exception cref="Linux.LinuxException">It cannot be read.</exception>
    public byte[] ReadDeviceState() => ReadChecked(FormatV1.DeviceStateFileName, FormatV1.MaxDeviceStateSize);

    /// <summary>libvirt's description of the machine, checked against the manifest; null if libvirt did not manage the machine.</summary>
    /// <exception cref="SnapshotCorruptException">It is damaged or too long.</exception>
    /// <exception cref="Linux.LinuxException">It cannot be read.</exception>
    public byte[]? ReadDomainXml() => ReadMachineFile(FormatV1.DomainXmlFileName);

    /// <summary>
    /// The Kubernetes objects from which the machine was created, JSON, checked against the manifest; null if no objects were given.
    /// </summary>
    /// <exception cref="SnapshotCorruptException">They are damaged or too long.</exception>
    /// <exception cref="Linux.LinuxException">They cannot be read.</exception>
    public byte[]? ReadObjects() => ReadMachineFile(FormatV1.ObjectsFileName);

    /// <summary>Opens a file that the manifest lists, such as a disk's. Its content is not checked yet.</summary>
    /// <exception cref="SnapshotCorruptException">It is not listed, or its length differs from the manifest.</exception>
    /// <exception cref="Linux.LinuxException">It cannot be opened.</exception>
    internal SafeFileHandle OpenListed(string name, out ManifestFile listed, out string display)
    {
        listed = Listed(name);
        display = Display(name);
        SafeFileHandle file = SnapshotFiles.OpenRead(_directory, name, display, out long size);
        if (size == listed.Size)
            return file;
        file.Dispose();
        throw new SnapshotCorruptException(
            display,
            Math.Min(size, listed.Size),
            $"the file has {size} bytes, the manifest says {listed.Size}"
        );
    }

    /// <summary>Closes the directory; readers already opened stay usable.</summary>
    public void Dispose() => _directory.Dispose();

    private byte[]? ReadMachineFile(string name) =>
        Manifest.Files.Any(f => f.Name == name) ? ReadChecked(name, FormatV1.MaxMachineFileSize) : null;

    private byte[] ReadChecked(string name, long limit)
    {
        ManifestFile file = Listed(name);
        string display = Display(name);
        byte[] bytes = SnapshotFiles.ReadSmall(_directory, name, display, limit);
        if (bytes.Length != file.Size)
            throw new SnapshotCorruptException(
                display,
                Math.Min(bytes.Length, file.Size),
                $"the file has {bytes.Length} bytes, the manifest says {file.Size}"
            );
        return $"sha256:{Sha256.HexOf(bytes)}" == file.Checksum
            ? bytes
            : throw new SnapshotCorruptException(display, 0, "the file's checksum is not the manifest's");
    }

    private ManifestFile Listed(string name) =>
        Manifest.Files.FirstOrDefault(f => f.Name == name)
        ?? throw new SnapshotCorruptException(Display(FormatV1.ManifestFileName), 0, $"{name} is not listed");

    private string Display(string name) => System.IO.Path.Join(Path, name);
}
