using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Disks;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Storm;

/// <summary>Checks that a snapshot that was called Ready is sound and of one instant.</summary>
internal sealed class SnapshotCheck(RoundPlan plan, Tally tally)
{
    /// <summary>
    /// The writer number of the guest's spare memory, which the guest frees in between: its remaining pages are of no single instant.
    /// </summary>
    private const uint Spare = 63;

    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    /// <param name="snapshot">Its directory.</param>
    /// <param name="dump">The agent's dump of the stop window, if there is one.</param>
    public async Task IsTrueAsync(string snapshot, string? dump)
    {
        await IsVerifiedAsync(snapshot);
        MemoryIsOneCut(snapshot);
        if (plan.Machine.Disks.Count > 0)
            await DisksAgreeAsync(snapshot);
        if (dump is not null)
            IsTruth(snapshot, dump);
    }

    private async Task IsVerifiedAsync(string snapshot)
    {
        var result = await AgentProcess.RunAsync(Patience, "verify", snapshot);
        tally.Count("checks", "verified");
        if (result.ExitCode != 0)
            throw new ViolationException(Promise.Unsound, $"verify: {result}");
    }

    private void MemoryIsOneCut(string snapshot)
    {
        var verdict = new CutVerdict([.. SnapshotImage.Judge(snapshot).Writers.Where(w => w.Writer != Spare)]);
        tally.Count("checks", "memory of one instant");
        if (verdict.Cut == Cut.Torn)
            throw new ViolationException(Promise.Torn, $"memory: {verdict}");
        if (verdict.Cut != Cut.OneCut || verdict.Writers.Count != plan.Writers)
            throw new ViolationException(Promise.Unsound, $"memory of {plan.Writers} writers: {verdict}");
    }

    private async Task DisksAgreeAsync(string snapshot)
    {
        List<string> images = [];
        var captured = SnapshotDisks.Of(snapshot).Where(d => d.File is not null && plan.Machine.Disks.Any(p => p.Name == d.Name));
        try
        {
            foreach (var disk in captured.OrderBy(d => d.Name, StringComparer.Ordinal))
                images.Add(await SnapshotDisks.ToRawAsync(snapshot, disk));
            var verdict = DiskScanner.Judge(SnapshotImage.FindDiskRecord(snapshot), images);
            tally.Count("checks", "disks of memory's instant");
            if (!verdict.Agrees)
                throw new ViolationException(Promise.Torn, $"disks: {verdict}");
        }
        catch (Exception e) when (e is InvalidOperationException or InvalidDataException or Xunit.Sdk.XunitException)
        {
            throw new ViolationException(Promise.Unsound, $"disks: {e.Message}", e);
        }
        finally
        {
            images.ForEach(File.Delete);
        }
    }

    private void IsTruth(string snapshot, string dump)
    {
        var differences = SnapshotImage.DifferencesFromDump(snapshot, dump);
        tally.Count("checks", "every page equal to a dump");
        if (differences.Length > 0)
            throw new ViolationException(Promise.Torn, $"beside a dump of the stop window: {differences}");
    }
}
