using System.Globalization;

namespace Bgsnap.Linux;

/// <summary>One line of /proc/PID/maps; proc_pid_maps(5).</summary>
/// <param name="Start">First address.</param>
/// <param name="End">First address after it.</param>
/// <param name="Permissions">Four characters, such as <c>rw-p</c>.</param>
/// <param name="Offset">Offset in the file, bytes.</param>
/// <param name="Device">Major and minor number, as the kernel prints them.</param>
/// <param name="Inode">Inode, 0 for anonymous memory.</param>
/// <param name="Path">File name, a name in brackets, or empty.</param>
public sealed record MemoryMapping(ulong Start, ulong End, string Permissions, ulong Offset, string Device, ulong Inode, string Path)
{
    /// <summary>Length in bytes.</summary>
    public ulong Length => End - Start;

    /// <summary>Whether code may run here.</summary>
    public bool IsExecutable => Permissions[2] == 'x';

    /// <summary>Whether writes go to the file, or to the processes that share the memory.</summary>
    public bool IsShared => Permissions[3] == 's';

    /// <summary>Whether it may be written.</summary>
    public bool IsWritable => Permissions[1] == 'w';

    /// <summary>Reads all mappings of a process, in ascending order.</summary>
    /// <exception cref="IOException">The process is gone, or we may not read its entry.</exception>
    internal static IReadOnlyList<MemoryMapping> Read(ProcessEntry process)
    {
        List<MemoryMapping> maps = [];
        foreach (string line in File.ReadLines(process.At("maps")))
        {
            if (TryParse(line) is { } m)
                maps.Add(m);
        }
        return maps;
    }

    /// <summary>Parses one line; null if it does not have this form.</summary>
    public static MemoryMapping? TryParse(string line)
    {
        string[] parts = line.Split(' ', 6, StringSplitOptions.RemoveEmptyEntries);
        if (parts.Length < 5 || parts[1].Length < 4)
            return null;
        int dash = parts[0].IndexOf('-', StringComparison.Ordinal);
        if (
            dash < 0
            || !ulong.TryParse(parts[0].AsSpan(0, dash), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out ulong start)
            || !ulong.TryParse(parts[0].AsSpan(dash + 1), NumberStyles.HexNumber, CultureInfo.InvariantCulture, out ulong end)
            || !ulong.TryParse(parts[2], NumberStyles.HexNumber, CultureInfo.InvariantCulture, out ulong offset)
            || !ulong.TryParse(parts[4], NumberStyles.None, CultureInfo.InvariantCulture, out ulong inode)
            || end < start
        )
            return null;
        return new MemoryMapping(start, end, parts[1], offset, parts[3], inode, parts.Length > 5 ? parts[5].TrimStart() : "");
    }
}
