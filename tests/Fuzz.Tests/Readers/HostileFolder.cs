using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Fuzz.Readers;

/// <summary>A directory in memory with one file, written again for every input.</summary>
internal sealed class HostileFolder : IDisposable
{
    private readonly SafeFileHandle _file;

    internal HostileFolder(string name)
    {
        string parent = Directory.Exists("/dev/shm") ? "/dev/shm" : System.IO.Path.GetTempPath();
        Path = System.IO.Path.Join(parent, $"bgsnap-fuzz-{Guid.NewGuid():N}");
        Directory.CreateDirectory(Path);
        _file = File.OpenHandle(System.IO.Path.Join(Path, name), FileMode.CreateNew, FileAccess.ReadWrite, FileShare.ReadWrite);
        Handle = SnapshotFiles.OpenDirectory(null, Path);
    }

    /// <summary>Its path.</summary>
    internal string Path { get; }

    /// <summary>The directory.</summary>
    internal SafeFileHandle Handle { get; }

    /// <summary>The file, open for reading and writing.</summary>
    internal SafeFileHandle OpenFile => _file;

    /// <summary>The file becomes the input.</summary>
    internal void Write(byte[] input)
    {
        RandomAccess.SetLength(_file, input.Length);
        RandomAccess.Write(_file, input, 0);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Handle.Dispose();
        _file.Dispose();
        Directory.Delete(Path, recursive: true);
    }
}
