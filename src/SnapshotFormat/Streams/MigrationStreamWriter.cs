using System.Buffers.Binary;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.SnapshotFormat.Streams;

/// <summary>How much of a stream's RAM has been sent.</summary>
/// <param name="SentBytes">Bytes of guest RAM, zero pages included.</param>
/// <param name="TotalBytes">Bytes of guest RAM to send.</param>
public readonly record struct RamProgress(ulong SentBytes, ulong TotalBytes);

/// <summary>Options of a <see cref="MigrationStreamWriter"/>.</summary>
public sealed record MigrationStreamWriterOptions
{
    /// <summary>Threads that read RAM ahead of the writer.</summary>
    public int ReaderThreads { get; init; } = Math.Min(4, Environment.ProcessorCount);

    /// <summary>
    /// The blocks whose pages are sent, by index; null for all. The block list names every block in any case: QEMU needs the complete list,
    /// and an instant restore delivers the pages of the big blocks another way.
    /// </summary>
    public Func<int, bool>? SendPagesOf { get; init; }

    /// <summary>
    /// Returns true for a granule (block index, offset divided by 65536) that is known to be zero in the QEMU that will load the stream;
    /// its zero pages are then left out. Null, the default, sends them all. Called on the reader threads.
    /// </summary>
    /// <remarks>
    /// This pays only for shared memory: QEMU reads a page before it zeroes it, and reading a hole of a memfd allocates the page (4 GiB of
    /// zeroes: 9 s and 4 GiB of memory; anonymous: 0.16 s and nothing). A caller that has read the holes of the target's memory, after the
    /// target was set up with <c>-incoming defer</c>, may use it. A guess is not allowed, because ROMs, kernels and loaded files are in RAM
    /// before the stream is.
    /// </remarks>
    public Func<int, long, bool>? IsZeroInTarget { get; init; }

    /// <summary>Called on the writing thread after each chunk of at most 512 KiB of RAM.</summary>
    public Action<RamProgress>? Progress { get; init; }
}

/// <summary>
/// Writes a migration stream that stock QEMU loads with <c>-incoming</c>.
/// </summary>
/// <remarks>
/// <code>
///   "QEVM" be32 3
///   07  be32 length, machine type
///   01  be32 id, 03 "ram", be32 0, be32 4;  be64 total | 4;  { u8 length, name, be64 used };  be64 10;  7e be32 id
///   03  be32 id;  page records, see RamChunkBuilder;  be64 10;  7e be32 id
///       the device-state file behind its first eight bytes, its final 00 included
///   06  be32 2, "{}"
/// </code>
/// One END section may carry all pages. Sources: <c>docs/qemu-streams.md</c>.
/// </remarks>
public sealed class MigrationStreamWriter
{
    /// <summary>
    /// Id of the RAM section. QEMU numbers the handlers of a machine from 0 upwards as they are registered, so a machine would need a
    /// billion handlers to collide. It is not 0, because QEMU looks END sections up by the id of their START, and every handler without a
    /// START has 0.
    /// </summary>
    public const uint RamSectionId = 0x4247_534e;

    private readonly string _machineType;
    private readonly IRamSource _ram;
    private readonly DeviceStateFile _deviceState;
    private readonly MigrationStreamWriterOptions _options;
    private readonly ulong _totalBytes;
    private readonly ulong _bytesToSend;

    /// <summary>Prepares a stream.</summary>
    /// <param name="machineType">Versioned machine type without <c>-machine</c>, such as <c>pc-q35-7.2</c>.</param>
    /// <param name="ram">RAM; must stay valid until the write has returned.</param>
    /// <param name="deviceState">Device state of the same point in time.</param>
    /// <param name="options">Null for the defaults.</param>
    /// <exception cref="ArgumentException">A stream cannot carry such a name or length.</exception>
    public MigrationStreamWriter(
        string machineType,
        IRamSource ram,
        DeviceStateFile deviceState,
        MigrationStreamWriterOptions? options = null
    )
    {
        ArgumentNullException.ThrowIfNull(machineType);
        ArgumentNullException.ThrowIfNull(ram);
        ArgumentNullException.ThrowIfNull(deviceState);
        _machineType = machineType;
        _ram = ram;
        _deviceState = deviceState;
        _options = options ?? new MigrationStreamWriterOptions();
        ArgumentOutOfRangeException.ThrowIfLessThan(_options.ReaderThreads, 1, nameof(options));

        if (!MigrationFormat.IsName(machineType))
            throw new ArgumentException($"'{machineType}' cannot be a machine type.", nameof(machineType));
        (_totalBytes, _bytesToSend) = CheckBlocks(ram.Blocks, _options.SendPagesOf);
        if (deviceState.Sections.Any(s => s.Id == RamSectionId))
            throw new ArgumentException($"A device section has our RAM section's id {RamSectionId}.", nameof(deviceState));
    }

    /// <summary>Writes the stream to a file, pipe or unix socket, which stays open and is not synced.</summary>
    /// <returns>Bytes written.</returns>
    /// <exception cref="MigrationStreamException">The destination accepts no more data; the message says why.</exception>
    /// <exception cref="IOException">RAM could not be read.</exception>
    /// <exception cref="OperationCanceledException">The write was cancelled; the destination has part of the stream.</exception>
    public long Write(SafeFileHandle output, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(output);
        using var destination = new DescriptorOutput(output, cancellationToken);
        return Write(destination, cancellationToken);
    }

    /// <inheritdoc cref="Write(SafeFileHandle, CancellationToken)"/>
    /// <summary>Writes the stream to a .NET stream, which stays open and is not flushed.</summary>
    public long Write(Stream output, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(output);
        using var destination = new ManagedStreamOutput(output, cancellationToken);
        return Write(destination, cancellationToken);
    }

    private static (ulong Total, ulong ToSend) CheckBlocks(IReadOnlyList<(string Name, ulong UsedLength)> blocks, Func<int, bool>? include)
    {
        if (blocks.Count is 0 or > MigrationFormat.MaxBlocks)
            throw new ArgumentException($"A stream has 1 to {MigrationFormat.MaxBlocks} RAM blocks, not {blocks.Count}.");
        ulong total = 0;
        ulong toSend = 0;
        var names = new HashSet<string>(StringComparer.Ordinal);
        for (int i = 0; i < blocks.Count; i++)
        {
            (string name, ulong length) = blocks[i];
            if (!MigrationFormat.IsName(name) || !names.Add(name))
                throw new ArgumentException($"'{name}' cannot be the name of a RAM block, or is one already.");
            if (length == 0 || length % MigrationFormat.PageSize != 0 || length > MigrationFormat.MaxRamBytes - total)
                throw new ArgumentException($"RAM block '{name}' cannot have {length} bytes.");
            total += length;
            if (include is null || include(i))
                toSend += length;
        }
        return (total, toSend);
    }

    private long Write(StreamOutput output, CancellationToken cancellationToken)
    {
        cancellationToken.ThrowIfCancellationRequested();
        output.Write(BuildHead());
        WritePages(output, cancellationToken);
        output.Write(BuildRamEnd());
        output.Write(_deviceState.StreamPart.Span);
        output.Write([MigrationFormat.VmDescription, 0, 0, 0, 2, (byte)'{', (byte)'}']);
        output.Flush();
        return output.Position;
    }

    private void WritePages(StreamOutput output, CancellationToken cancellationToken)
    {
        using var pipeline = new RamChunkPipeline(_ram, _options);
        ulong sent = 0;
        while (pipeline.TryTake(out ReadOnlySpan<byte> records, out ulong ramBytes, cancellationToken))
        {
            output.Write(records);
            pipeline.Release();
            sent += ramBytes;
            _options.Progress?.Invoke(new RamProgress(sent, _bytesToSend));
        }
    }

    /// <summary>Builds everything before the first page.</summary>
    private byte[] BuildHead()
    {
        using var memory = new MemoryStream();
        using var head = new BinaryWriter(memory, Encoding.ASCII);
        head.Write(BigEndian(MigrationFormat.Magic));
        head.Write(BigEndian(MigrationFormat.Version));

        head.Write(MigrationFormat.Configuration);
        head.Write(BigEndian((uint)_machineType.Length));
        head.Write(Encoding.ASCII.GetBytes(_machineType));

        head.Write(MigrationFormat.SectionStart);
        head.Write(BigEndian(RamSectionId));
        WriteName(head, MigrationFormat.RamSectionName);
        head.Write(BigEndian(0u));
        head.Write(BigEndian(MigrationFormat.RamSectionVersion));
        head.Write(BigEndian(_totalBytes | MigrationFormat.FlagMemSize));
        foreach ((string name, ulong usedLength) in _ram.Blocks)
        {
            WriteName(head, name);
            head.Write(BigEndian(usedLength));
        }
        WriteSectionEnd(head);

        head.Write(MigrationFormat.SectionEnd);
        head.Write(BigEndian(RamSectionId));
        head.Flush();
        return memory.ToArray();
    }

    private static byte[] BuildRamEnd()
    {
        using var memory = new MemoryStream();
        using var end = new BinaryWriter(memory);
        WriteSectionEnd(end);
        end.Flush();
        return memory.ToArray();
    }

    private static void WriteSectionEnd(BinaryWriter writer)
    {
        writer.Write(BigEndian(MigrationFormat.FlagEos));
        writer.Write(MigrationFormat.SectionFooter);
        writer.Write(BigEndian(RamSectionId));
    }

    private static void WriteName(BinaryWriter writer, string name)
    {
        writer.Write((byte)name.Length);
        writer.Write(Encoding.ASCII.GetBytes(name));
    }

    private static uint BigEndian(uint value) => BinaryPrimitives.ReverseEndianness(value);

    private static ulong BigEndian(ulong value) => BinaryPrimitives.ReverseEndianness(value);
}
