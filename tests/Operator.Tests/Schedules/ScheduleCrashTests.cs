using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Operator.Schedules;
using Bgsnap.Operator.Tests.InMemory;
using Xunit.Abstractions;

namespace Bgsnap.Operator.Tests.Schedules;

/// <summary>One request about a schedule fails, each in turn. Each due time gets exactly one snapshot all the same.</summary>
public sealed class ScheduleCrashTests(ITestOutputHelper output)
{
    public static TheoryData<string> Faults =>
        [
            nameof(Fault.CrashBefore),
            nameof(Fault.CrashAfter),
            nameof(Fault.Unreachable),
            nameof(Fault.AnswerLost),
            nameof(Fault.Conflict),
            nameof(Fault.ServerError),
            nameof(Fault.Refused),
        ];

    [Theory]
    [MemberData(nameof(Faults))]
    public async Task Each_due_time_gets_one_snapshot_and_old_ones_are_deleted_whichever_request_fails(string name)
    {
        Fault fault = Enum.Parse<Fault>(name);
        int requests = await ThreeTimes(_ => Fault.None, "no fault");
        for (int i = 1; i <= requests; i++)
            await ThreeTimes(n => n == i ? fault : Fault.None, $"request {i}");
        output.WriteLine($"{requests} requests, each with {fault}");
        Assert.InRange(requests, 8, 40);
    }

    private static async Task<int> ThreeTimes(Func<int, Fault> fault, string what)
    {
        await using World world = await TestObjects.WithVm();
        int requests = 0;
        world.Fault = (_, r) => IsOfSchedule(r) ? fault(++requests) : Fault.None;
        await world.Add(ScheduleObjects.Schedule("0 * * * *", s => s.Retention = new ScheduleRetention { Count = 1 }));
        await world.Steps(3);
        foreach (int hour in new[] { 4, 5, 6 })
        {
            world.ClockTo($"2026-01-02T{hour:00}:00:00");
            string snapshot = $"nightly-20260102{hour:00}00";
            await world.UntilPhase(snapshot, SnapshotPhase.Ready, 60);
            await world.Steps(5);
        }
        await world.Until(() => world.Snapshots().Count() == 1, $"with {what}: one is left", 60);
        Assert.Equal(["nightly-202601020400", "nightly-202601020500", "nightly-202601020600"], world.SnapshotsEver());
        Assert.Equal(["nightly-202601020600"], world.Snapshots());
        Assert.Single(world.Agents.Directories);
        ScheduleStatus status = world.Schedule().Status!;
        Assert.True(
            status
                is { LastSnapshotName: "nightly-202601020600", LastSkippedTime: null, Active: 0, Ready: 1, Phase: SchedulePhase.Scheduled },
            $"with {what}: {status.LastSnapshotName} {status.LastSkippedTime} {status.Active} {status.Ready} {status.Phase}"
        );
        Assert.StartsWith("True Scheduled", world.ScheduleCondition(), StringComparison.Ordinal);
        return requests;
    }

    private static bool IsOfSchedule(Request r) =>
        r.Plural == "vmbackgroundsnapshotschedules"
        || r is { Plural: "vmbackgroundsnapshots", Verb: "create" or "delete" }
        || r is { Plural: "events", Name: "SnapshotCreated" or "SnapshotDeleted" };
}
