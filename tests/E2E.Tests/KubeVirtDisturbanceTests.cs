using System.Globalization;
using System.Text.Json.Nodes;
using Bgsnap.E2E.Tests.Harness;

namespace Bgsnap.E2E.Tests;

/// <summary>
/// Disturbances of a VirtualMachine during a capture: others stop, resume and migrate it, and its libvirt dies. The guest never notices.
/// </summary>
[Collection(nameof(RealCluster))]
public sealed class KubeVirtDisturbanceTests(ClusterFixture cluster)
{
    private const string Slow = "capture: { bandwidthLimit: 1Mi }";

    private static readonly (string Reason, string Words, string Change, string Undo)[] Refused =
    [
        (
            "DeviceUnsupported",
            "gpu gpu1",
            Devices("""{"gpus":[{"name":"gpu1","deviceName":"nvidia.com/A10"}]}"""),
            Devices("""{"gpus":null}""")
        ),
        (
            "DeviceUnsupported",
            "host device nic",
            Devices("""{"hostDevices":[{"name":"nic","deviceName":"vendor.com/nic"}]}"""),
            Devices("""{"hostDevices":null}""")
        ),
        (
            "DeviceUnsupported",
            "SR-IOV interface fast is passed through",
            Devices("""{"interfaces":[{"name":"fast","sriov":{}}]}"""),
            Devices("""{"interfaces":null}""")
        ),
        (
            "DeviceUnsupported",
            "interface user is vhost-user's",
            Devices("""{"interfaces":[{"name":"user","binding":{"name":"vhostuser"}}]}"""),
            Devices("""{"interfaces":null}""")
        ),
        (
            "DeviceUnsupported",
            "interface user is vhost-user's",
            Devices("""{"interfaces":[{"name":"user","passtBinding":{}}]}"""),
            Devices("""{"interfaces":null}""")
        ),
        (
            "DeviceUnsupported",
            "filesystem share uses virtiofs: another",
            Devices("""{"filesystems":[{"name":"share","virtiofs":{}}]}"""),
            Devices("""{"filesystems":null}""")
        ),
        (
            "DeviceUnsupported",
            "launchSecurity",
            """{"spec":{"domain":{"launchSecurity":{"sev":{}}}}}""",
            """{"spec":{"domain":{"launchSecurity":null}}}"""
        ),
        (
            "DeviceUnsupported",
            "virtio-mem",
            """{"status":{"memory":{"guestAtBoot":"192Mi","guestCurrent":"256Mi","guestRequested":"256Mi"}}}""",
            """{"status":{"memory":null}}"""
        ),
        (
            "DiskShared",
            "disk root",
            Devices("""{"disks":[{"name":"root","shareable":true}]}"""),
            Devices("""{"disks":[{"name":"root","disk":{"bus":"virtio"}}]}""")
        ),
    ];

    private static readonly (string Reason, string Words, string Change, string Undo)[] WaitedFor =
    [
        (
            "Paused",
            "PausedByUser",
            """{"status":{"conditions":[{"type":"Paused","status":"True","reason":"PausedByUser"}]}}""",
            """{"status":{"conditions":null}}"""
        ),
        ("Migrating", "node far", """{"status":{"migrationState":{"targetNode":"far"}}}""", """{"status":{"migrationState":null}}"""),
        (
            "MemoryDump",
            "volume dump",
            """{"status":{"volumeStatus":[{"name":"dump","memoryDumpVolume":{"startTimestamp":"2026-01-01T00:00:00Z"}}]}}""",
            """{"status":{"volumeStatus":null}}"""
        ),
        // KubeVirt may restart its VM.
        ("SourceNotRunning", "start it", """{"status":{"phase":"Succeeded"}}""", """{"status":{"phase":"Running"}}"""),
        ("SourceNotRunning", "Scheduling", """{"status":{"phase":"Scheduling"}}""", """{"status":{"phase":"Running"}}"""),
    ];

    [SkippableFact]
    public async Task A_permanent_obstacle_is_refused_and_a_temporary_one_makes_the_capture_wait()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var (machine, _) = await KubeVirtMachine.RunningAsync(cluster, lab);
        var n = 0;
        foreach (var (reason, words, change, undo) in Refused)
        {
            var name = $"refused-{++n}";
            await machine.ChangeAsync(change);
            await lab.ApplyAsync(KubeVirtMachine.Snapshot(name));
            Assert.Contains(words, Lab.Message(await lab.FailedAsync(name, reason)), StringComparison.Ordinal);
            await machine.ChangeAsync(undo);
        }

        foreach (var (reason, words, change, undo) in WaitedFor)
        {
            var name = $"waited-{++n}";
            await machine.ChangeAsync(change);
            await lab.ApplyAsync(KubeVirtMachine.Snapshot(name));
            Assert.Contains(
                words,
                Lab.Message(await lab.UntilAsync(name, "waiting", s => Lab.Reason(s) == reason)),
                StringComparison.Ordinal
            );
            await machine.ChangeAsync(undo);
            await lab.ReadyAsync(name, DiskMachine.Limit);
        }

        await lab.CountsAsync(KubeVirtMachine.Pod);
        await lab.NoHelpersAsync();
    }

    /// <summary>KubeVirt's SyncVMI resumes every guest that it did not pause itself.</summary>
    [SkippableFact]
    public async Task Captures_are_correct_while_somebody_resumes_the_domain_repeatedly()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var (machine, claim) = await KubeVirtMachine.RunningAsync(cluster, lab);
        using CancellationTokenSource enough = new();
        var resuming = Task.Run(async () =>
        {
            var tries = 0;
            for (; !enough.IsCancellationRequested; tries++)
            {
                // Mostly the domain runs, and there is nothing to resume.
                await cluster.Kubectl.TryAsync(
                    null,
                    "-n",
                    lab.Name,
                    "exec",
                    KubeVirtMachine.Pod,
                    "-c",
                    "compute",
                    "--",
                    "/bin/sh",
                    "-c",
                    "for i in 1 2 3 4 5 6 7 8 9 10; do /usr/bin/virsh -q -c 'qemu:///session?socket=/run/libvirt/libvirt-sock' "
                        + $"resume {lab.Name}_{KubeVirtMachine.Name}; done; :"
                );
            }

            return tries;
        });
        try
        {
            for (var i = 0; i < 5; i++)
                await VerifyAsync(claim, await lab.ReadyAsync(await AppliedAsync(lab, $"resumed-{i}"), DiskMachine.Limit));
        }
        finally
        {
            await enough.CancelAsync();
        }

        Assert.True(await resuming > 0);
        await lab.CountsAsync(KubeVirtMachine.Pod);
        Assert.StartsWith(
            "running",
            await machine.VirshAsync(KubeVirtMachine.Pod, "domstate", $"{lab.Name}_{KubeVirtMachine.Name}"),
            StringComparison.Ordinal
        );
    }

    [SkippableFact]
    public async Task A_guest_and_its_captures_survive_repeated_kills_of_libvirt()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var (machine, claim) = await KubeVirtMachine.RunningAsync(cluster, lab);
        var (kills, ready) = (0, 0);
        for (var i = 0; i < 6; i++)
        {
            var name = await AppliedAsync(lab, $"killed-{i}");
            await lab.UntilAsync(name, "ordered or ended", s => Lab.Phase(s) is "Capturing" or "Ready" or "Failed");
            JsonNode ended;
            do
            {
                kills += await KillLibvirtAsync(lab);
                await Task.Delay(300 + 100 * i);
                ended = await lab.SnapshotAsync(name);
            } while (Lab.Phase(ended) is not ("Ready" or "Failed"));
            await lab.CountsAsync(KubeVirtMachine.Pod);
            if (Lab.Phase(ended) == "Ready")
            {
                ready++;
                await VerifyAsync(claim, ended);
            }
            else
            {
                // In the stop window the agent does not wait for a libvirt that comes back slowly: it ends the capture, and the guest runs
                // on.
                Assert.True(
                    Lab.Reason(ended) == "QemuUnreachable"
                        || Lab.Message(ended)!.Contains("bgsnap killed it", StringComparison.Ordinal),
                    $"{ended["status"]}"
                );
            }
        }

        Assert.True(kills >= 6 && ready > 0, $"{kills} kills, {ready} of 6 captures were Ready");
        // Undisturbed, the capture succeeds at once, and nothing that the others left hinders it.
        await VerifyAsync(claim, await lab.ReadyAsync(await AppliedAsync(lab, "alone"), DiskMachine.Limit));
        Assert.StartsWith(
            "running",
            await machine.VirshAsync(KubeVirtMachine.Pod, "domstate", $"{lab.Name}_{KubeVirtMachine.Name}"),
            StringComparison.Ordinal
        );
    }

    [SkippableFact]
    public async Task Captures_give_way_to_live_migrations()
    {
        await using var lab = await Lab.CreateAsync(cluster);
        var (machine, claim) = await KubeVirtMachine.RunningAsync(cluster, lab);
        await machine.StartTargetAsync();

        // A migration that begins while a capture copies.
        await lab.ApplyAsync(KubeVirtMachine.Snapshot("before", more: Slow));
        await lab.UntilAsync("before", "copying", s => Lab.Condition(s, "PointInTime")?["status"]?.GetValue<string>() == "True");
        Assert.Equal("Capturing", Lab.Phase(await lab.SnapshotAsync("before")));
        var migrating = machine.MigrateAsync(KubeVirtMachine.Pod, KubeVirtMachine.Target, mebibytesPerSecond: 16);
        await lab.FailedAsync("before", "MigrationActive");
        await machine.HurryAsync(KubeVirtMachine.Pod);
        await migrating;
        await lab.CountsAsync(KubeVirtMachine.Target);
        await machine.MovedAsync(KubeVirtMachine.Target);

        // The VM is captured where it runs now, and migrates afterwards.
        await VerifyAsync(claim, await lab.ReadyAsync(await AppliedAsync(lab, "there"), DiskMachine.Limit));

        // A capture during a migration that KubeVirt has not reported yet.
        migrating = machine.MigrateAsync(KubeVirtMachine.Target, KubeVirtMachine.Pod, mebibytesPerSecond: 4);
        await lab.FailedAsync(await AppliedAsync(lab, "during"), "MigrationActive");
        Assert.False(migrating.IsCompleted, "the migration was over before the capture was refused");

        // And during one that it has reported.
        await machine.ChangeAsync("""{"status":{"migrationState":{"completed":false,"targetNode":"far"}}}""");
        await lab.UntilAsync(await AppliedAsync(lab, "after"), "waiting", s => Lab.Reason(s) == "Migrating");
        await machine.HurryAsync(KubeVirtMachine.Target);
        await migrating;
        await machine.MovedAsync(KubeVirtMachine.Pod);
        var after = await lab.ReadyAsync("after", DiskMachine.Limit);
        Assert.Equal(KubeVirtMachine.Pod, after["status"]!["podName"]!.GetValue<string>());
        await VerifyAsync(claim, after);
        await lab.CountsAsync(KubeVirtMachine.Pod);
        await lab.NoHelpersAsync();
    }

    private static async Task<string> AppliedAsync(Lab lab, string name)
    {
        await lab.ApplyAsync(KubeVirtMachine.Snapshot(name));
        return name;
    }

    private static async Task VerifyAsync(string claim, JsonNode snapshot) =>
        (await Command.RunAsync(Repository.Agent, ["verify", Path.Join(claim, snapshot["status"]!["directory"]!.GetValue<string>())])).Ok();

    private async Task<int> KillLibvirtAsync(Lab lab)
    {
        foreach (var pid in await Processes.OfPodAsync(cluster.Kubectl, lab.Name, KubeVirtMachine.Pod))
        {
            try
            {
                if ((await File.ReadAllTextAsync($"/proc/{pid}/comm")).Trim() != "libvirtd")
                    continue;
            }
            catch (IOException)
            {
                continue;
            }

            return (await Command.RunAsync("kill", ["-KILL", pid.ToString(CultureInfo.InvariantCulture)])).ExitCode == 0 ? 1 : 0;
        }

        return 0;
    }

    private static string Devices(string devices) => $$$"""{"spec":{"domain":{"devices":{{{devices}}} } } }""";
}
