using System.Text.RegularExpressions;
using Bgsnap.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.SnapshotFormat.Store;

/// <summary>
/// Hidden directories in which snapshots are built, named <c>.&lt;name&gt;.partial-&lt;boot&gt;-&lt;random&gt;</c>. The owner holds an
/// flock on the directory itself, which the kernel drops with the process.
/// </summary>
/// <remarks>
/// On a network file system only this node may know that lock, so the name contains the first 8 digits of the kernel's boot id. A sweep
/// judges a directory of this boot by its lock. A directory of another boot (another node, or this one before a restart), or on a file
/// system without such locks, counts as a leftover only after an hour in which none of its files changed. If a sweep still took one from a
/// living owner, the owner's capture would fail, never succeed with missing files: its commit finds the files gone.
/// </remarks>
internal static partial class PartialDirectory
{
    /// <summary>How many bytes the hidden name is longer than the final one.</summary>
    public const int NameOverhead = 1 + 9 + 8 + 1 + 16;

    private static readonly TimeSpan Silence = TimeSpan.FromHours(1);

    [GeneratedRegex(@"^\..+\.partial-(?<boot>[0-9a-f]{8})-[0-9a-f]{16}$", RegexOptions.CultureInvariant | RegexOptions.Singleline)]
    private static partial Regex Pattern { get; }

    /// <summary>Creates and locks a new one.</summary>
    /// <param name="parent">The directory to create it in.</param>
    /// <param name="name">The final name.</param>
    /// <param name="boot">This boot's digits, see <see cref="BootDigits"/>.</param>
    public static (SafeFileHandle Handle, string Name) Create(SafeFileHandle parent, string name, string boot)
    {
        // Between mkdir and lock another process's sweep may take it for a leftover and lock or remove it. Then try another name.
        for (int attempt = 0; ; attempt++)
        {
            string partial = $".{name}.partial-{boot}-{NewDigits()}";
            FileSyscalls.MakeDirectory(
                parent,
                partial,
                0x1c0 /* 0700 */
            );
            SafeFileHandle? handle = null;
            try
            {
                handle = SnapshotFiles.OpenDirectory(parent, partial);
                // Any other error: the file system has no such locks, so no sweep relies on them.
                bool swept = FileSyscalls.TryLock(handle) == Errno.EAGAIN;
                if (
                    !swept
                    && FileSyscalls.TryStatus(parent, partial) is { } status
                    && status.IsSameFile(FileSyscalls.Status(handle, partial))
                )
                    return (handle, partial);
            }
            catch (LinuxException e) when (e.Errno == Errno.ENOENT) { }
            catch
            {
                handle?.Dispose();
                throw;
            }
            handle?.Dispose();
            if (attempt == 10)
                throw new LinuxException($"{partial} : somebody else removes it again and again", Errno.ENOENT);
        }
    }

    /// <summary>Removes the leftovers whose owner is gone; what cannot be removed stays for the next sweep.</summary>
    /// <returns>Names removed.</returns>
    public static List<string> Sweep(SafeFileHandle parent, string boot, DateTimeOffset now)
    {
        var removed = new List<string>();
        foreach (string name in SnapshotFiles.Names(parent))
        {
            if (Pattern.Match(name) is not { Success: true } match)
                continue;
            try
            {
                using SafeFileHandle handle = SnapshotFiles.OpenDirectory(parent, name);
                int denied = FileSyscalls.TryLock(handle);
                if (denied == Errno.EAGAIN)
                    continue;
                // Its owner may have committed between our open and our lock: then the name is gone and we hold a snapshot.
                if (FileSyscalls.TryStatus(parent, name) is not { } status || !status.IsSameFile(FileSyscalls.Status(handle, name)))
                    continue;
                bool lockTells = denied == 0 && match.Groups["boot"].Value == boot;
                if (!lockTells && now - LastChange(handle) < Silence)
                    continue;
                if (Remove(parent, name))
                    removed.Add(name);
            }
            catch (LinuxException)
            {
                // Another sweep has it, or we may not read it.
            }
        }
        return removed;
    }

    /// <summary>Removes a directory of at most two levels without following links. False if something is left.</summary>
    public static bool Remove(SafeFileHandle parent, string name) => Remove(parent, name, depth: 2);

    /// <summary>The first 8 hex digits of the kernel's boot id: the same for all processes of a node until it restarts.</summary>
    public static string BootDigits() => File.ReadAllText("/proc/sys/kernel/random/boot_id")[..8];

    private static bool Remove(SafeFileHandle parent, string name, int depth)
    {
        try
        {
            using SafeFileHandle directory = SnapshotFiles.OpenDirectory(parent, name);
            foreach (string entry in SnapshotFiles.Names(directory))
            {
                int errno = FileSyscalls.TryUnlink(directory, entry, 0);
                if (errno == Errno.EISDIR && depth > 1)
                    _ = Remove(directory, entry, depth - 1);
            }
        }
        catch (LinuxException)
        {
            return false;
        }
        return FileSyscalls.TryUnlink(parent, name, FileSyscalls.AT_REMOVEDIR) == 0;
    }

    private static DateTimeOffset LastChange(SafeFileHandle directory)
    {
        long seconds = FileSyscalls.Status(directory, "directory").ModifiedSeconds;
        foreach (string file in SnapshotFiles.List(directory, static _ => { }))
        {
            seconds = Math.Max(
                seconds,
                SnapshotFiles.Within(directory, file, static (d, n) => FileSyscalls.TryStatus(d, n)?.ModifiedSeconds ?? 0)
            );
        }
        return DateTimeOffset.FromUnixTimeSeconds(Math.Clamp(seconds, 0, DateTimeOffset.MaxValue.ToUnixTimeSeconds()));
    }

    private static string NewDigits()
    {
        Span<byte> random = stackalloc byte[8];
        Guid.NewGuid().ToByteArray().AsSpan(8).CopyTo(random);
        return Convert.ToHexStringLower(random);
    }
}
