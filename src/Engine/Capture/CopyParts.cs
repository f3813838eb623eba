using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.Engine.Capture;

/// <summary>What copies RAM under one userfaultfd: protection, sweep, fault path and release, wired together.</summary>
internal sealed class CopyParts
{
    internal CopyParts(
        GuestRam ram,
        RamReader reader,
        Userfaultfd uffd,
        Pagemap pagemap,
        PopulationScan scan,
        CapturePipeline pipeline,
        GranuleLedger ledger,
        CaptureContext context,
        GuestWatch watch
    )
    {
        ProtectionNotes notes = new();
        Protection = new WriteProtection(ram, uffd, scan, notes);
        Sweep = new Sweep(ram);
        Memory = new ProtectedMemory(reader, uffd, pagemap);
        Release = new Release(pipeline, ram, Memory, ledger, context.Progress);
        Discards discards = new(ram, uffd.Features.HasFlag(UffdFeatures.WpUnpopulated));
        TimeSpan limit = context.Options.MaxDowntime;
        Faults = new FaultServer(pipeline, ram, Memory, Sweep, Release, notes, discards, context.Progress, watch.Add(), limit);
    }

    internal WriteProtection Protection { get; }
    internal Sweep Sweep { get; }
    internal ProtectedMemory Memory { get; }
    internal Release Release { get; }
    internal FaultServer Faults { get; }
}
