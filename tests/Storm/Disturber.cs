using System.Diagnostics;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Linux.Tests.Survival;

namespace Bgsnap.Storm;

/// <summary>Applies the drawn disturbances to one capture.</summary>
internal sealed class Disturber(StormGuest guest, Tally tally)
{
    private readonly List<OtherBackup> _backups = [];

    /// <summary>The command was killed: only the next capture can clean up.</summary>
    public bool CommandWasKilled { get; private set; }

    /// <summary>QEMU was killed: the round ends with this capture.</summary>
    public bool QemuWasKilled { get; private set; }

    /// <summary>Devices or nodes were added or removed: the machine is no longer the same.</summary>
    public bool MachineChanged { get; private set; }

    public IReadOnlyList<OtherBackup> Backups => _backups;

    /// <summary>Applies each disturbance at its time; drops those that come after the capture's end.</summary>
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
                family.SignalWorker(HarnessLibc.SigKill);
                break;
            case DisturbanceKind.KillCommand:
                CommandWasKilled = true;
                family.Signal(HarnessLibc.SigKill);
                break;
            case DisturbanceKind.KillBoth:
                CommandWasKilled = true;
                family.Signal(HarnessLibc.SigKill);
                family.SignalWorker(HarnessLibc.SigKill);
                break;
            case DisturbanceKind.StopWorker:
                family.SignalWorker(HarnessLibc.SigStop);
                break;
            case DisturbanceKind.StopWorkerBriefly:
                family.SignalWorker(HarnessLibc.SigStop);
                await Task.Delay(one.Milliseconds);
                family.SignalWorker(HarnessLibc.SigCont);
                return;
            case DisturbanceKind.StopCommand:
            case DisturbanceKind.StopBoth:
            case DisturbanceKind.FreezeBoth:
                await StopAsync(family, one);
                break;
            case DisturbanceKind.Cancel:
                family.Signal(HarnessLibc.SigTerm);
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
    /// Stops the command, with or without its child, by a signal or as a paused container. The guest must be free in time; then the
    /// processes continue, or are killed.
    /// </summary>
    private async Task StopAsync(CaptureFamily family, Disturbance one)
    {
        using var freezer = one.Kind == DisturbanceKind.FreezeBoth ? Freezer.Freeze(family.Command, family.Worker) : null;
        if (freezer is null)
            family.Signal(HarnessLibc.SigStop);
        if (one.Kind == DisturbanceKind.StopBoth)
            family.SignalWorker(HarnessLibc.SigStop);
        try
        {
            await guest.Watch.LivesAsync(one.Kind.ToString());
        }
        finally
        {
            if (one.Milliseconds % 2 == 0)
            {
                CommandWasKilled = true;
                family.Signal(HarnessLibc.SigKill);
                family.SignalWorker(HarnessLibc.SigKill);
            }
            else
            {
                family.Signal(HarnessLibc.SigCont);
                family.SignalWorker(HarnessLibc.SigCont);
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
