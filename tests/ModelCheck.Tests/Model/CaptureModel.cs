using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.NodeAgent;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Store;
using ModelCheck.Scheduling;
using Thread = Bgsnap.Thread;

namespace ModelCheck.Model;

/// <summary>What happens around a capture.</summary>
internal sealed record Situation
{
    /// <summary>Granules of the only block.</summary>
    internal int Granules { get; init; } = 3;

    /// <summary>The block is one huge page, which is copied and released whole.</summary>
    internal bool IsHuge { get; init; }

    /// <summary>vCPUs that write to every granule in turn.</summary>
    internal int Writers { get; init; } = 2;

    /// <summary>QEMU discards granules 0 and on, one after the other, at any moment.</summary>
    internal int Discards { get; init; }

    /// <summary>Something takes the protection of granule 0 away without a word.</summary>
    internal bool LosesProtection { get; init; }

    /// <summary>The capture is cancelled at any moment.</summary>
    internal bool IsCancelled { get; init; }

    /// <summary>Threads of the background copy.</summary>
    internal int Sweepers { get; init; } = 2;

    internal PageCompression Compression { get; init; } = PageCompression.None;

    internal Defects Defects { get; init; }
}

/// <summary>
/// A capture with the agent's own classes, from the moment at which the fault thread runs to the finished page log, against a guest of the
/// model. Throws when the guest does not go on, or when a snapshot that is called whole is not the memory as it was at the point in time.
/// </summary>
internal static class CaptureModel
{
    private const ulong Start = 0x4000_0000;
    private const int StageBytes = 32 << 20;

    /// <summary>How many captures were whole, and how many were given up; for a check that tries nothing.</summary>
    internal static int Whole { get; private set; }

    /// <inheritdoc cref="Whole"/>
    internal static int GivenUp { get; private set; }

    internal static void Run(Situation s)
    {
        GuestModel guest = new(Start, s.Granules, s.Defects);
        for (int g = 0; g < s.Granules; g++)
            guest.Fill(g, (ulong)(1000 + g));
        Thread[] outside = [.. Enumerable.Range(0, s.Writers).Select(w => Begin($"vcpu{w}", () => WriteAll(guest, s.Granules, w)))];
        if (s.Discards > 0)
            outside = [.. outside, Begin("discard", () => DiscardSome(guest, s.Discards))];
        if (s.LosesProtection)
            outside = [.. outside, Begin("merge", () => guest.LoseProtection(0))];

        string path = Path.Join(Directory.Exists("/dev/shm") ? "/dev/shm" : Path.GetTempPath(), $"bgsnap-model-{Guid.NewGuid():N}");
        try
        {
            ulong[]? truth = Capture(s, guest, path);
            // Whatever became of the capture: every write of the guest ends.
            foreach (Thread t in outside)
                t.Join();
            if (truth is null)
                GivenUp++;
            else
                Compare(truth, path);
        }
        finally
        {
            File.Delete(path);
        }
    }

    private static void WriteAll(GuestModel guest, int granules, int writer)
    {
        for (int n = 0; n < granules; n++)
            guest.Write((n + writer) % granules, (ulong)((writer + 2) * 1_000_000 + n));
    }

    private static void DiscardSome(GuestModel guest, int count)
    {
        for (int g = 0; g < count; g++)
            guest.Discard(g);
    }

    /// <returns>The memory at the point in time; null: the capture was given up.</returns>
    private static ulong[]? Capture(Situation s, GuestModel guest, string path)
    {
        RamBlock block = new(
            "ram",
            Start,
            (ulong)s.Granules * GuestRam.GranuleSize,
            4096,
            RamKind.Anonymous,
            new MemoryMapping(Start, Start + (1 << 30), "rw-p", 0, "00:00", 0, "")
        );
        RamBlockLayout[] layout = [new(block.Name, block.UsedLength, block.PageSize)];
        using PageLogWriter log = PageLogWriter.Create(path, layout, s.Compression, Guid.NewGuid());
        using GuestRam ram = new([block]);
        for (long c = 0; c < ram.Clusters; c++)
            ram.SetKind(c, s.IsHuge ? ClusterKind.Huge : ClusterKind.Small);
        using GranuleIndex index = new(layout);
        using GranuleLedger ledger = new(index.Count);
        using CapturePipeline pipeline = new(StageBytes, s.Compression, s.Sweepers);
        pipeline.FreeBy(guest.Close);
        CaptureProgress progress = new();
        Encoder[] encoders =
        [
            .. Enumerable.Range(0, s.Sweepers).Select(_ => new Encoder(pipeline, s.Compression, index, ledger, log, pipeline.Outputs)),
        ];
        ProtectionNotes notes = new();
        Sweep sweep = new(ram);
        Release release = new(pipeline, ram, guest, ledger, progress);
        FaultServer faults = new(pipeline, ram, guest, sweep, release, notes, new Discards(ram, protectsHoles: true), progress);
        SweepGate begin = new();
        List<Thread> sweepers = [],
            writers = [];
        Thread serving = pipeline.Start("faults", faults.Run);
        Thread? cancelling = s.IsCancelled ? Begin("cancel", () => pipeline.Fail(new OperationCanceledException())) : null;
        ulong[] truth = [];
        try
        {
            writers.Add(pipeline.Start("file", () => WriteRuns(pipeline, pipeline.Stage, pipeline.Encoded, log, ledger)));
            if (pipeline.Outputs is { } outputs)
                writers.Add(pipeline.Start("file", () => WriteRuns(pipeline, outputs, pipeline.EncodedOutputs, log, ledger)));
            foreach (Encoder e in encoders)
                sweepers.Add(pipeline.Start("sweep", new SweepWorker(pipeline, ram, sweep, release, new BandwidthLimit(0), e, begin).Run));
            ProtectAhead(guest, s, pipeline);
            guest.Stop();
            faults.OpenWindow(readAhead =>
            {
                for (int g = 0; g < s.Granules; g++)
                    Protect(guest, g, readAhead);
                truth = guest.Values;
                ram.BeginWindow();
            });
            begin.Protected();
            guest.Continue();
            begin.Open();
            while (ram.PendingGranules > 0 && !pipeline.IsCancelled)
                Thread.Sleep(50);
            // All is released, and faults are still served.
            if (!guest.AwaitQuiet(5_000_000) && !pipeline.IsCancelled)
                throw new InvalidOperationException("a writer waits for a page that was released: nobody woke it");
            faults.Stop();
            serving.Join();
            guest.Close();
            pipeline.Copied.Close();
            sweepers.ForEach(t => t.Join());
            pipeline.Encoded.Close();
            pipeline.EncodedOutputs.Close();
            writers.ForEach(t => t.Join());
        }
        catch (CaptureFailedException e)
        {
            pipeline.Fail(e);
        }
        finally
        {
            guest.Continue();
            guest.Close();
            pipeline.Cancel();
            serving.Join();
            sweepers.ForEach(t => t.Join());
            writers.ForEach(t => t.Join());
            cancelling?.Join();
            foreach (Encoder e in encoders)
                e.Dispose();
        }
        if (pipeline.Failure is { } failure)
            return failure is CaptureFailedException or OperationCanceledException
                ? null
                : throw new InvalidOperationException("the capture broke", failure);
        _ = log.Finish(index, ledger, ram.GranulesToCopy);
        return truth;
    }

    // Half of the memory, while the guest runs: its writes there are forgiven until the window opens.
    private static void ProtectAhead(GuestModel guest, Situation s, CapturePipeline pipeline)
    {
        for (int g = 0; g < s.Granules / 2 && !s.IsHuge; g++)
        {
            while (!guest.TryProtect(g) && !pipeline.IsCancelled)
                Nap.Microseconds(100);
        }
    }

    private static void Protect(GuestModel guest, int granule, Action readAhead)
    {
        while (!guest.TryProtect(granule))
        {
            readAhead();
            Nap.Microseconds(100);
        }
    }

    private static unsafe void WriteRuns(CapturePipeline pipeline, Stage stage, BufferQueue queue, PageLogWriter log, GranuleLedger ledger)
    {
        for (int number; (number = queue.Take()) >= 0; )
        {
            Stage.Buffer buffer = stage[number];
            if (!pipeline.IsCancelled)
            {
                log.WriteRun(buffer.Memory, buffer.EncodedLength, buffer.FileOffset);
                ledger.NoteWritten(buffer.Run.AsSpan(0, buffer.RunCount));
            }
            stage.Return(number);
        }
    }

    private static unsafe void Compare(ulong[] truth, string path)
    {
        Whole++;
        using PageLogReader reader = PageLogReader.Open(path);
        using GranuleDecoder decoder = new();
        byte[] granule = new byte[FormatV1.GranuleSize];
        for (int g = 0; g < truth.Length; g++)
        {
            fixed (byte* p = granule)
            {
                reader.ReadGranule(0, g, p, decoder);
                if (*(ulong*)p != truth[g])
                    throw new InvalidOperationException(
                        $"granule {g} is {*(ulong*)p} in a snapshot that is called whole; at the point in time it was {truth[g]}"
                    );
            }
        }
    }

    private static Thread Begin(string name, Action body)
    {
        Thread thread = new(() => body(), 0) { Name = name };
        thread.Start();
        return thread;
    }
}
