using System.Globalization;
using System.Numerics;
using System.Text.RegularExpressions;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Vocabulary;

namespace Bgsnap.Qemu.Vm;

/// <summary>Finds every RAM block of a QEMU in its address space, or refuses; it never guesses.</summary>
public static partial class RamBlockTable
{
    private const int MaximumBlocks = 4096,
        LongestLine = 1024,
        Tries = 3;

    /// <summary>Reads QEMU's blocks and locates each of them in the process.</summary>
    /// <exception cref="RefusedException">A block cannot be located beyond doubt, or its memory is of a kind that cannot be
    /// captured.</exception>
    internal static IReadOnlyList<RamBlock> Read(IQmpMonitor qmp, CheckedProcess process)
    {
        List<RamBlockLine> known = [];
        return Read(qmp, process, ref known);
    }

    /// <summary>
    /// The same for repeated calls: blocks found before are not searched for again while their records are still at the same place.
    /// </summary>
    /// <param name="qmp">Its monitor.</param>
    /// <param name="process">Its process.</param>
    /// <param name="known">The result of the last call.</param>
    internal static IReadOnlyList<RamBlock> Read(IQmpMonitor qmp, CheckedProcess process, ref List<RamBlockLine> known)
    {
        string table = qmp.ExecuteHuman("info ramblock");
        for (int tries = 1; ; tries++)
        {
            try
            {
                return Read(qmp, process, table, ref known);
            }
            catch (RefusedException e) when (e.Reason == Reasons.RamBlocksUnknown && tries < Tries && IsAnother(qmp, ref table))
            {
                // Memory was plugged in or out between reading the table and inspecting the process.
            }
        }
    }

    private static bool IsAnother(IQmpMonitor qmp, ref string table)
    {
        string before = table;
        table = qmp.ExecuteHuman("info ramblock");
        return table != before;
    }

    private static IReadOnlyList<RamBlock> Read(IQmpMonitor qmp, CheckedProcess process, string table, ref List<RamBlockLine> known)
    {
        List<RamBlockLine> lines = Parse(table);
        IReadOnlyList<MemoryMapping> maps = MemoryMapping.Read(process);
        if (lines.Exists(l => l.HostAddress == 0))
        {
            lines = IsAsKnown(process, lines, known) ? known : RamBlockFinder.AddHostAddresses(qmp, process, maps, lines);
            known = lines;
        }
        return [.. lines.Select(l => Place(l, process.Pid, maps))];
    }

    private static bool IsAsKnown(CheckedProcess process, IReadOnlyList<RamBlockLine> lines, IReadOnlyList<RamBlockLine> known) =>
        lines.SequenceEqual(known.Select(k => k with { HostAddress = 0, FoundAt = 0 }))
        && known.All(k => RamBlockFinder.StandsAsFound(process, k));

    /// <summary>Parses the table of <c>info ramblock</c>. Blocks without a name are not migratable and are left out.</summary>
    /// <exception cref="RefusedException">The text is not such a table.</exception>
    public static List<RamBlockLine> Parse(string text)
    {
        List<RamBlockLine> blocks = [];
        foreach (string line in text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Skip(1))
        {
            // A line much longer than any of QEMU's is not matched at all, because the pattern's cost grows with the square of the length.
            Match m = line.Length <= LongestLine ? Row().Match(line.Trim()) : Match.Empty;
            if (!m.Success)
                throw new RefusedException(
                    Reasons.RamBlocksUnknown,
                    "QEMU's 'info ramblock' has a line that the agent does not understand: "
                        + $"'{line.Trim()[..Math.Min(line.Trim().Length, 200)]}'"
                );
            string name = m.Groups["name"].Value.Trim();
            if (name.Length == 0)
                continue;
            blocks.Add(
                new RamBlockLine(
                    name,
                    PageSize(m.Groups["page"].Value, m.Groups["unit"].Value),
                    Hex(m, "offset"),
                    Hex(m, "used"),
                    Hex(m, "total"),
                    m.Groups["hva"].Success ? Hex(m, "hva") : 0
                )
            );
        }
        if (blocks.DistinctBy(b => b.Name).Count() != blocks.Count)
            throw new RefusedException(Reasons.RamBlocksUnknown, "QEMU's 'info ramblock' lists two blocks of the same name");
        if (blocks.Count is 0 or > MaximumBlocks)
            throw new RefusedException(Reasons.RamBlocksUnknown, $"QEMU's 'info ramblock' lists {blocks.Count} blocks");
        return blocks;
    }

    private static RamBlock Place(RamBlockLine line, int pid, IReadOnlyList<MemoryMapping> maps)
    {
        ulong end = line.HostAddress + line.UsedLength;
        if (end <= line.HostAddress)
            throw new RefusedException(
                Reasons.RamBlocksUnknown,
                $"RAM block {line.Name} cannot have {line.UsedLength} bytes at {line.HostAddress:x}"
            );
        MemoryMapping first = maps.LastOrDefault(m => m.Start <= line.HostAddress && m.End > line.HostAddress)
            ?? throw new RefusedException(
                Reasons.RamBlocksUnknown,
                $"RAM block {line.Name} at {line.HostAddress:x} is not mapped in process {pid}"
            );
        ulong covered = first.End;
        foreach (MemoryMapping m in maps.Where(m => m.Start >= first.End && m.Start < end))
        {
            if (m.Start != covered || m.Inode != first.Inode || m.IsShared != first.IsShared || !m.IsWritable)
                break;
            covered = m.End;
        }
        if (covered < end || !first.IsWritable)
            throw new RefusedException(
                Reasons.RamBlocksUnknown,
                $"RAM block {line.Name} ({line.UsedLength} bytes at {line.HostAddress:x}) is not one writable mapping in process {pid}"
            );
        if (line.PageSize > 2 << 20)
            throw new RefusedException(
                Reasons.PageSizeUnsupported,
                $"RAM block {line.Name} has pages of {line.PageSize >> 20} MiB: the guest would wait for a whole page to be copied "
                    + "at its first write; give the VM 2 MiB huge pages"
            );
        if (line.UsedLength % 4096 != 0 || line.HostAddress % 4096 != 0)
            throw new RefusedException(Reasons.RamBlocksUnknown, $"RAM block {line.Name} is not made of whole pages");
        return new RamBlock(line.Name, line.HostAddress, line.UsedLength, line.PageSize, KindOf(line, first), first);
    }

    private static RamKind KindOf(RamBlockLine line, MemoryMapping m) =>
        (m.Inode, m.IsShared, line.PageSize > 4096) switch
        {
            (0, false, false) => RamKind.Anonymous,
            (_, true, true) => RamKind.SharedHugetlb,
            (_, false, true) => RamKind.PrivateHugetlb,
            (_, true, false) => RamKind.SharedMemory,
            (_, false, false) => RamKind.PrivateMemory,
        };

    private static ulong Hex(Match m, string group) =>
        ulong.Parse(m.Groups[group].ValueSpan, NumberStyles.HexNumber, CultureInfo.InvariantCulture);

    private static uint PageSize(string number, string unit)
    {
        uint scale = unit switch
        {
            "B" => 1,
            "KiB" => 1 << 10,
            "MiB" => 1 << 20,
            "GiB" => 1 << 30,
            _ => 0,
        };
        double size = scale * double.Parse(number, CultureInfo.InvariantCulture);
        return size is >= 4096 and <= 1U << 31 && BitOperations.IsPow2((uint)size) && (uint)size == size
            ? (uint)size
            : throw new RefusedException(
                Reasons.RamBlocksUnknown,
                $"QEMU's 'info ramblock' has a block with pages of {number} " + $"{unit}"
            );
    }

    [GeneratedRegex(
        @"^(?:(?<name>\S.*?)\s+)?(?<page>\d{1,9}(?:\.\d{1,9})?) (?<unit>B|KiB|MiB|GiB)"
            + @"\s+0x(?<offset>[0-9a-f]{1,16}) 0x(?<used>[0-9a-f]{1,16}) 0x(?<total>[0-9a-f]{1,16})(?: 0x(?<hva>[0-9a-f]{1,16})\s+r[ow])?$"
    )]
    private static partial Regex Row();
}
