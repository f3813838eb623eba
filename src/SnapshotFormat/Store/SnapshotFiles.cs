using Bgsnap.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>The files of a snapshot directory, accessed below its descriptor and never through a link.</summary>
internal static class SnapshotFiles
{
    private const int DirectoryFlags = FileSyscalls.O_RDONLY | FileSyscalls.O_DIRECTORY;

    /// <summary>Opens a directory; with <paramref name="parent"/>, inside it and without following a link.</summary>
    public static SafeFileHandle OpenDirectory(SafeFileHandle? parent, string name, string? display = null) =>
        FileSyscalls.OpenAt(parent, name, parent is null ? DirectoryFlags : DirectoryFlags | FileSyscalls.O_NOFOLLOW, 0, display);

    /// <summary>Names in an open directory, hidden ones too.</summary>
    public static List<string> Names(SafeFileHandle directory)
    {
        // Use the descriptor's own entry in /proc: the path of the directory may have changed since it was opened.
        string path = $"/proc/self/fd/{directory.DangerousGetHandle()}/";
        return [.. Directory.EnumerateFileSystemEntries(path).Select(p => Path.GetFileName(p)!).Order(StringComparer.Ordinal)];
    }

    /// <summary>Every regular file as <c>name</c> or <c>folder/name</c>; anything else goes to <paramref name="odd"/>.</summary>
    public static List<string> List(SafeFileHandle directory, Action<string> odd)
    {
        var files = new List<string>();
        foreach (string name in Names(directory))
        {
            FileSyscalls.FileStatus? status = FileSyscalls.TryStatus(directory, name);
            if (status is null)
                continue;
            if (status.Value.IsRegular)
            {
                files.Add(name);
            }
            else if (!status.Value.IsDirectory)
            {
                odd(name);
            }
            else
            {
                using SafeFileHandle inner = OpenDirectory(directory, name);
                foreach (string leaf in Names(inner))
                {
                    if (FileSyscalls.TryStatus(inner, leaf) is { IsRegular: true })
                        files.Add($"{name}/{leaf}");
                    else
                        odd($"{name}/{leaf}");
                }
            }
        }
        return files;
    }

    /// <summary>Runs <paramref name="use"/> with the directory that holds <paramref name="file"/>, and the last part of its name.</summary>
    public static T Within<T>(SafeFileHandle directory, string file, Func<SafeFileHandle, string, T> use)
    {
        int slash = file.IndexOf('/', StringComparison.Ordinal);
        if (slash < 0)
            return use(directory, file);
        using SafeFileHandle inner = OpenDirectory(directory, file[..slash]);
        return use(inner, file[(slash + 1)..]);
    }

    /// <summary>Opens a file of the snapshot for reading.</summary>
    public static SafeFileHandle OpenRead(SafeFileHandle directory, string file, string display, out long size)
    {
        (SafeFileHandle handle, long length) = Within(directory, file, (d, n) => (HostileFile.Open(d, n, display, out long s), s));
        size = length;
        return handle;
    }

    /// <summary>SHA-256 of a whole file in the manifest's form, computed in constant memory.</summary>
    public static string Checksum(SafeFileHandle file, long size, string display, Action<long>? progress = null)
    {
        var hash = new Sha256();
        byte[] chunk = new byte[1 << 20];
        for (long at = 0; at < size; at += chunk.Length)
        {
            Span<byte> part = chunk.AsSpan(0, (int)Math.Min(chunk.Length, size - at));
            HostileFile.ReadExactly(file, part, at, display);
            hash.Append(part);
            progress?.Invoke(at + part.Length);
        }
        return $"sha256:{hash.FinishHex()}";
    }

    /// <summary>Reads a whole file of at most <paramref name="limit"/> bytes.</summary>
    public static byte[] ReadSmall(SafeFileHandle directory, string file, string display, long limit)
    {
        using SafeFileHandle handle = OpenRead(directory, file, display, out long size);
        if (size > limit)
            throw new SnapshotCorruptException(display, limit, $"the file has {size} bytes, more than {limit}");
        byte[] bytes = new byte[size];
        HostileFile.ReadExactly(handle, bytes, 0, display);
        return bytes;
    }
}
