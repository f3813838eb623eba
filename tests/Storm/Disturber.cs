using System.Diagnostics;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Linux.Tests.Survival;

namespace Bgsnap.Storm;

/// <summary>Does to one capture what was drawn for it.</summary>
internal sealed class Disturber(StormGuest guest, Tally tally)
{
    private readonly List<OtherBackup> _backups = [];

    /// <summary>The command was killed: nobody is left who cleans up, but the next capture.</summary>
    public bool CommandWasKilled { get; private set; }

    /// <summary>QEMU was killed: the round is over with this capture.</summary>
    public bool QemuWasKilled { get; private set; }

    /// <summary>Devices or nodes came or went: the machine is not the one that it was before.</summary>
    public bool MachineChanged { get; private set; }

    public IReadOnlyList<OtherBackup> Backups => _backups;

    /// <summary>Waits for each one's time, and does it; what comes after the capture's end is left out.</summary>
    public async Task DoAsync(CaptureFamily family, IReadOnlyList<Disturbance> all, TimeSpan expected, long began)
    {
        foreach (var one in all)
        {
            while (!family.HasEnded && Stopwatch.GetElapsedTime(began) < one.At * expected)
                await Task.Delay(1);
            if (family.HasEnded)
            {
                tally.Count("disturbances that came too late", one.Kind.ToString());
                continue;
            }

            tally.Count("disturbances", one.Kind.ToString());
            await DoAsync(family, one);
            if (QemuWasKilled)
                return;
        }
    }

    private async Task DoAsync(CaptureFamily family, Disturbance one)
    {
        var watch = guest.Watch;
        switch (one.Kind)
        {
            case DisturbanceKind.KillWorker:
                family.SignalWorker(Libc.SigKill);
                break;
            case DisturbanceKind.KillCommand:
                CommandWasKilled = true;
                family.Signal(Libc.SigKill);
                break;
            case DisturbanceKind.KillBoth:
                CommandWasKilled = true;
                family.Signal(Libc.SigKill);
                family.SignalWorker(Libc.SigKill);
                break;
            case DisturbanceKind.StopWorker:
                family.SignalWorker(Libc.SigStop);
                break;
            case DisturbanceKind.StopWorkerBriefly:
                family.SignalWorker(Libc.SigStop);
                await Task.Delay(one.Milliseconds);
                family.SignalWorker(Libc.SigCont);
                return;
            case DisturbanceKind.StopCommand:
            case DisturbanceKind.StopBoth:
            case DisturbanceKind.FreezeBoth:
                await StopAsync(family, one);
                break;
            case DisturbanceKind.Cancel:
                family.Signal(Libc.SigTerm);
                break;
            case DisturbanceKind.KillQemu:
                QemuWasKilled = true;
                await guest.Machine.KillAsync();
                return;
            case DisturbanceKind.UserPauses:
                await watch.PauseAsync();
                return;
            case DisturbanceKind.UserResumes:
                await watch.ResumeAsync();
                break;
            case DisturbanceKind.UserPausesAndResumes:
                await watch.PauseAsync();
                await Task.Delay(one.Milliseconds);
                await watch.ResumeAsync();
                break;
            case DisturbanceKind.UserResumesAndPauses:
                await watch.ResumeAsync();
                await Task.Delay(one.Milliseconds);
                await watch.PauseAsync();
                return;
            default:
                await ChangeMachineAsync(one);
                return;
        }

        await watch.LivesAsync(one.Kind.ToString());
    }

    /// <summary>
    /// The command stands still, and the child with it or not, by a signal or as a container that is paused. The guest is free in time;
    /// then they go on, or are killed.
    /// </summary>
    private async Task StopAsync(CaptureFamily family, Disturbance one)
    {
        using var freezer = one.Kind == DisturbanceKind.FreezeBoth ? Freezer.Freeze(family.Command, family.Worker) : null;
        if (freezer is null)
            family.Signal(Libc.SigStop);
        if (one.Kind == DisturbanceKind.StopBoth)
            family.SignalWorker(Libc.SigStop);
        try
        {
            await guest.Watch.LivesAsync(one.Kind.ToString());
        }
        finally
        {
            if (one.Milliseconds % 2 == 0)
            {
                CommandWasKilled = true;
                family.Signal(Libc.SigKill);
                family.SignalWorker(Libc.SigKill);
            }
            else
            {
                family.Signal(Libc.SigCont);
                family.SignalWorker(Libc.SigCont);
            }
        }
    }

    private async Task ChangeMachineAsync(Disturbance one)
    {
        var vm = guest.Machine;
        switch (one.Kind)
        {
            case DisturbanceKind.BalloonGrows:
                await vm.Qmp.ExecuteAsync("balloon", new() { ["value"] = (long)(vm.Options.MemoryMiB - 24) << 20 });
                break;
            case DisturbanceKind.BalloonShrinks:
                await vm.Qmp.ExecuteAsync("balloon", new() { ["value"] = (long)vm.Options.MemoryMiB << 20 });
                break;
            case DisturbanceKind.GuestMovesMemory:
                vm.Serial.MoveSpare();
                break;
            case DisturbanceKind.OtherBackup:
                MachineChanged = true;
                if (await OtherBackup.BeginAsync(vm, guest.NextNumber()) is { } backup)
                    _backups.Add(backup);
                else
                    tally.Count("noted", "other backups that QEMU refused");
                break;
            case DisturbanceKind.ExternalSnapshot:
                MachineChanged = true;
                if (await ExternalSnapshot.TakeAsync(vm, guest.NextNumber()) is { } image)
                    guest.Overlays.Add(image);
                else
                    tally.Count("noted", "other snapshots that QEMU refused");
                break;
            default:
                MachineChanged = true;
                var end = one.Kind switch
                {
                    DisturbanceKind.PlugMemory => await guest.Plugs.PlugMemoryAsync(),
                    DisturbanceKind.UnplugMemory => await guest.Plugs.UnplugMemoryAsync(),
                    DisturbanceKind.PlugDisk => await guest.Plugs.PlugDiskAsync(),
                    _ => await guest.Plugs.UnplugDiskAsync(),
                };
                tally.Count("plugs", $"{one.Kind} {end}");
                break;
        }
    }
}
