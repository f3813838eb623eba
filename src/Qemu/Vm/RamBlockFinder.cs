using System.Buffers.Binary;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.RegularExpressions;
using Bgsnap.Linux;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Vocabulary;

namespace Bgsnap.Qemu.Vm;

/// <summary>
/// Finds the host addresses of RAM blocks in a QEMU before 8.0, whose <c>info ramblock</c> does not print them.
/// </summary>
/// <remarks>
/// QEMU keeps each block in a <c>struct RAMBlock</c> (include/exec/ramblock.h) on its heap: … host, colo_cache, offset, used_length,
/// max_length, …, idstr. The three numbers and the name are known from <c>info ramblock</c>. A place where all four appear in this order,
/// found exactly once, is that struct, and the pointer before them is the address. Sizes of mappings alone are ambiguous, and a wrong guess
/// restores without any error.
/// </remarks>
internal static partial class RamBlockFinder
{
    private const int HostBeforeOffset = 16;
    private const int NumbersLength = 24;
    private const int NameWithin = 64;

    // Small enough to stay in a processor's own cache while it is searched for every block.
    private const int Chunk = 256 << 10;
    private const int Overlap = 512;

    internal static List<RamBlockLine> AddHostAddresses(
        IQmpMonitor qmp,
        CheckedProcess process,
        IReadOnlyList<MemoryMapping> maps,
        IReadOnlyList<RamBlockLine> lines
    )
    {
        // Guest RAM is not searched: data that a guest writes there must not be mistaken for QEMU's own.
        HashSet<ulong> ramSizes = [.. lines.Select(l => l.MaxLength)];
        IEnumerable<MemoryMapping> heaps = maps.Where(m =>
                m is { Inode: 0, IsWritable: true, IsShared: false, IsExecutable: false }
                && m.Path is "[heap]" or ""
                && !ramSizes.Contains(m.Length)
                && m.Length < 1UL << 30
            )
            .OrderByDescending(m => m.Path == "[heap]");
        Dictionary<string, Dictionary<ulong, ulong>> found = lines.ToDictionary(l => l.Name, _ => new Dictionary<ulong, ulong>());
        foreach (MemoryMapping heap in heaps)
        {
            Search(process, heap, maps, lines, found);
            if (heap.Path == "[heap]" && found.Values.All(f => f.Count == 1))
                break;
        }
        List<RamBlockLine> placed = [];
        foreach (RamBlockLine line in lines)
        {
            Dictionary<ulong, ulong> hosts = found[line.Name];
            if (hosts.Count != 1)
            {
                // A QEMU that is ending has no such struct and does not answer: then this query throws the real reason.
                qmp.Execute("query-status").Dispose();
                throw new RefusedException(
                    Reasons.RamBlocksUnknown,
                    $"RAM block {line.Name} was found at {hosts.Count} places in process {process.Pid}; QEMU {qmp.QemuVersion} "
                        + "does not print its address (8.0 and later do)"
                );
            }
            (ulong host, ulong foundAt) = hosts.Single();
            placed.Add(line with { HostAddress = host, FoundAt = foundAt });
        }
        CrossCheck(qmp, placed);
        return placed;
    }

    /// <summary>Whether a block's record is still at the same place, with the same numbers and the same address.</summary>
    internal static bool StandsAsFound(CheckedProcess process, RamBlockLine line)
    {
        Span<byte> there = stackalloc byte[HostBeforeOffset + NumbersLength],
            numbers = stackalloc byte[NumbersLength];
        WriteNumbers(line, numbers);
        return line.FoundAt != 0
            && ProcessMemory.TryRead(process, line.FoundAt, there) == there.Length
            && MemoryMarshal.Read<ulong>(there) == line.HostAddress
            && there[HostBeforeOffset..].SequenceEqual(numbers);
    }

    private static void WriteNumbers(RamBlockLine line, Span<byte> numbers)
    {
        BinaryPrimitives.WriteUInt64LittleEndian(numbers, line.Offset);
        BinaryPrimitives.WriteUInt64LittleEndian(numbers[8..], line.UsedLength);
        BinaryPrimitives.WriteUInt64LittleEndian(numbers[16..], line.MaxLength);
    }

    private static void Search(
        CheckedProcess process,
        MemoryMapping heap,
        IReadOnlyList<MemoryMapping> maps,
        IReadOnlyList<RamBlockLine> lines,
        Dictionary<string, Dictionary<ulong, ulong>> found
    )
    {
        byte[] buffer = new byte[Chunk + Overlap];
        Span<byte> numbers = stackalloc byte[NumbersLength];
        for (ulong at = heap.Start; at < heap.End; at += Chunk)
        {
            int want = (int)Math.Min((ulong)buffer.Length, heap.End - at);
            ReadOnlySpan<byte> memory = buffer.AsSpan(0, ProcessMemory.TryRead(process, at, buffer.AsSpan(0, want)));
            foreach (RamBlockLine line in lines)
            {
                WriteNumbers(line, numbers);
                byte[] name = [.. Encoding.UTF8.GetBytes(line.Name), 0];
                for (int from = 0; from < memory.Length; )
                {
                    int hit = memory[from..].IndexOf(numbers);
                    if (hit < 0)
                        break;
                    hit += from;
                    from = hit + 8;
                    if (
                        hit < HostBeforeOffset
                        || memory.Slice(hit, Math.Min(NameWithin + name.Length, memory.Length - hit)).IndexOf(name) < 0
                    )
                        continue;
                    ulong host = MemoryMarshal.Read<ulong>(memory[(hit - HostBeforeOffset)..]);
                    if (
                        host % 4096 == 0
                        && maps.Any(m => m.Start <= host && host + Math.Min(line.UsedLength, 4096) <= m.End && m.IsWritable)
                    )
                        found[line.Name].TryAdd(host, at + (ulong)(hit - HostBeforeOffset));
                }
            }
        }
    }

    /// <summary>Checks that QEMU's own answer for guest physical address 0 agrees with the search.</summary>
    private static void CrossCheck(IQmpMonitor qmp, IReadOnlyList<RamBlockLine> placed)
    {
        Match m = Gpa2Hva().Match(qmp.ExecuteHuman("gpa2hva 0"));
        if (!m.Success)
            return;
        string region = m.Groups["name"].Value;
        ulong hva = ulong.Parse(m.Groups["hva"].ValueSpan, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
        RamBlockLine? line = placed.FirstOrDefault(l => l.Name == region || l.Name.EndsWith("/" + region, StringComparison.Ordinal));
        if (line is not null && line.HostAddress != hva)
            throw new RefusedException(
                Reasons.RamBlocksUnknown,
                $"RAM block {line.Name} was found at {line.HostAddress:x}, but QEMU's gpa2hva says {hva:x}"
            );
    }

    [GeneratedRegex(@"\((?<name>[^)]*)\) is 0x(?<hva>[0-9a-f]+)")]
    private static partial Regex Gpa2Hva();
}
