using Xunit.Abstractions;

namespace Bgsnap.Linux.Tests;

/// <summary>
/// Starts the classes that take longest first, so that none of them runs alone at the end. <c>hack/test-times</c> prints them; a class that
/// is missing here only costs time.
/// </summary>
public sealed class LongestFirst : ITestCollectionOrderer
{
    private static readonly string[] Long =
    [
        "Libvirt.DisturbedCaptureTests",
        "Disks.BesideOthersTests",
        "Survival.StoppedAgentTests",
        "Libvirt.RunStateTests",
        "Capture.OneCutTests",
        "Capture.GuestStateTests",
        "Restore.Instant.GivenBackMemoryTests",
        "Capture.RunStateTests",
        "Capture.RestoreTests",
        "Disks.VolumeSnapshotTests",
        "HarnessTests.GuestTests",
        "Survival.KilledAgentTests",
        "Capture.MachineChangeTests",
        "Restore.RestoredStateTests",
        "Restore.Instant.InstantRestoreTests",
    ];

    public IEnumerable<ITestCollection> OrderTestCollections(IEnumerable<ITestCollection> testCollections) =>
        testCollections.OrderBy(Rank).ThenBy(c => c.DisplayName, StringComparer.Ordinal);

    private static int Rank(ITestCollection collection)
    {
        var rank = Array.FindIndex(Long, name => collection.DisplayName.EndsWith("." + name, StringComparison.Ordinal));
        return rank < 0 ? Long.Length : rank;
    }
}
