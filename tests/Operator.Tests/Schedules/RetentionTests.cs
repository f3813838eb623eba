using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Schedules;
using k8s.Models;

namespace Bgsnap.Operator.Tests.Schedules;

/// <summary>
/// Which snapshots retention deletes. Each is written as its phase (R, F, C for capturing, D for Ready and being deleted) and its age in
/// hours.
/// </summary>
public sealed class RetentionTests
{
    private static readonly DateTimeOffset Now = new(2026, 1, 10, 0, 0, 0, TimeSpan.Zero);

    [Theory]
    // Defaults: every Ready snapshot stays, and three failed ones.
    [InlineData(null, null, null, "R1 R2 R3 R400", "")]
    [InlineData(null, null, null, "F1 F2 F3 F4 F5 R9", "F5 F4")]
    // By number: only Ready ones count.
    [InlineData(2, null, null, "R1 R2 R3 R4", "R4 R3")]
    [InlineData(2, null, null, "C0 R1 R2", "")]
    [InlineData(2, null, null, "F0 F1 R2 R3 R4", "R4")]
    [InlineData(1, null, null, "R1", "")]
    // One that is being deleted does not count.
    [InlineData(2, null, null, "D1 R2 R3", "")]
    [InlineData(2, null, null, "D1 R2 R3 R4", "R4")]
    // By age, counted from the instant that it shows.
    [InlineData(null, "24h", null, "R1 R23 R24 R25", "R25")]
    [InlineData(null, "24h", null, "C1 R30 R40", "R40")]
    [InlineData(null, "24h", null, "R30", "")]
    [InlineData(null, "24h", null, "F1 R30", "")]
    [InlineData(null, "90m", null, "R1 R2", "R2")]
    // Both: the stricter one applies; each snapshot is deleted once.
    [InlineData(3, "24h", null, "R1 R25 R26 R27 R28", "R28 R27 R26 R25")]
    [InlineData(1, "24h", null, "R1 R2 R3", "R3 R2")]
    // Failed ones only by number.
    [InlineData(1, "24h", 0, "F1 R2", "F1")]
    [InlineData(1, "24h", 1, "F1 F99 R2", "F99")]
    [InlineData(null, "24h", 5, "F98 F99", "")]
    // A snapshot in use stays, and so does one under way.
    [InlineData(1, null, null, "R1 U2 R3", "R3")]
    [InlineData(1, "24h", 0, "R1 C30 C31", "")]
    public void Which_snapshots_are_deleted(int? count, string? maxAge, int? failed, string all, string expected)
    {
        List<VMBackgroundSnapshot> snapshots = [.. all.Split(' ').Select(Snapshot)];
        ScheduleRetention? retention =
            count is null && maxAge is null && failed is null
                ? null
                : new()
                {
                    Count = count,
                    MaxAge = maxAge,
                    FailedCount = failed,
                };
        // The order of the list does not matter.
        foreach (IEnumerable<VMBackgroundSnapshot> order in new[] { snapshots, snapshots.AsEnumerable().Reverse() })
            Assert.Equal(
                expected,
                string.Join(' ', Retention.Of(retention, order, s => s.Metadata.Name[0] == 'U', Now).Select(e => e.Snapshot.Metadata.Name))
            );
    }

    [Theory]
    [InlineData("R1 R20", "24h", 4)]
    [InlineData("R1 R25", "24h", 23)]
    [InlineData("F1 C2", "24h", null)]
    [InlineData("R1", null, null)]
    public void When_the_next_becomes_too_old(string all, string? maxAge, int? hours) =>
        Assert.Equal(
            hours is { } h ? Now.AddHours(h) : (DateTimeOffset?)null,
            Retention.NextExpiry(new ScheduleRetention { MaxAge = maxAge }, all.Split(' ').Select(Snapshot), Now)
        );

    private static VMBackgroundSnapshot Snapshot(string text)
    {
        DateTime at = Now.UtcDateTime.AddHours(-int.Parse(text[1..], System.Globalization.CultureInfo.InvariantCulture));
        bool ready = text[0] is 'R' or 'D' or 'U';
        return new VMBackgroundSnapshot
        {
            Metadata = new V1ObjectMeta
            {
                Name = text,
                Uid = text,
                CreationTimestamp = at.AddMinutes(-1),
                DeletionTimestamp = text[0] == 'D' ? Now.UtcDateTime : null,
            },
            Status = new SnapshotStatus
            {
                Phase =
                    ready ? SnapshotPhase.Ready
                    : text[0] == 'F' ? SnapshotPhase.Failed
                    : SnapshotPhase.Capturing,
                PointInTime = ready ? at : null,
            },
        };
    }
}
