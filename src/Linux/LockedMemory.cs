namespace Bgsnap.Linux;

/// <summary>Whether memory of a process is locked with mlock(2): the kernel refuses to discard it.</summary>
internal static class LockedMemory
{
    /// <summary>Checks one mapping.</summary>
    /// <param name="process">The process.</param>
    /// <param name="mapping">The mapping.</param>
    /// <exception cref="IOException">The process has ended.</exception>
    internal static bool IsLocked(ProcessEntry process, MemoryMapping mapping)
    {
        // Reading smaps walks all its page tables; this check is instant if nothing is locked.
        if (
            File.ReadLines(process.At("status"))
                .Any(l => l.StartsWith("VmLck:", StringComparison.Ordinal) && l.Contains(" 0 kB", StringComparison.Ordinal))
        )
            return false;
        bool here = false;
        foreach (string line in File.ReadLines(process.At("smaps")))
        {
            if (MemoryMapping.TryParse(line) is { } m)
                here = m.Start == mapping.Start;
            else if (here && line.StartsWith("VmFlags:", StringComparison.Ordinal))
                return line.Split(' ').Contains("lo");
        }
        return false;
    }
}
