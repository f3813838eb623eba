namespace Bgsnap.NodeAgent.Linux;

/// <summary>Whether memory of a process is locked, mlock(2): the kernel refuses to throw it away.</summary>
internal static class LockedMemory
{
    /// <summary>Looks at one mapping.</summary>
    /// <param name="process">The process.</param>
    /// <param name="mapping">The mapping.</param>
    /// <exception cref="IOException">It has ended.</exception>
    internal static bool IsLocked(ProcessEntry process, MemoryMapping mapping)
    {
        // Reading smaps walks the page tables of all of it; this says in no time that nothing is locked.
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
