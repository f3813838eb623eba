using System.Globalization;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>The part of a machine's command line for its disks and the guest agent's channel.</summary>
internal static class DiskCommandLine
{
    /// <summary>Options with their values as <c>-name=value</c>; QEMU takes them as two words.</summary>
    public static IEnumerable<string> Build(VirtualMachineOptions options, string folder)
    {
        // QEMU needs the controllers before their disks.
        if (options.Disks.Any(d => d.Bus == DiskBus.VirtioScsi && !d.IsCdrom))
        {
            var ioThread = options.Disks.Any(d => d is { Bus: DiskBus.VirtioScsi, IoThread: true });
            if (ioThread)
                yield return "-object=iothread,id=iothread-scsi";
            yield return $"-device=virtio-scsi-pci,id=scsi0{(ioThread ? ",iothread=iothread-scsi" : "")}";
        }

        var number = 0;
        foreach (var disk in options.Disks)
        {
            foreach (var word in Disk(disk, folder, ++number))
                yield return word;
        }

        if (options.GuestAgent)
        {
            yield return "-device=virtio-serial-pci";
            yield return $"-chardev=socket,id=charchannel0,path={QemuCommandLine.GuestAgentSocket(folder)},server=on,wait=off";
            yield return "-device=virtserialport,chardev=charchannel0,id=channel0,name=org.qemu.guest_agent.0";
        }
    }

    /// <summary>The node that the device uses, with -blockdev.</summary>
    public static string NodeOf(TestDisk disk, int number) =>
        string.Create(CultureInfo.InvariantCulture, $"libvirt-{number}-{(disk.Format == DiskFormat.Raw ? "storage" : "format")}");

    private static IEnumerable<string> Disk(TestDisk disk, string folder, int number)
    {
        var path = TestDisks.PathOf(disk, folder);
        var readOnly = disk.ReadOnly || disk.IsCdrom;
        string drive;
        if (disk.Arguments == DiskArguments.Drive)
        {
            drive = disk.Name;
            yield return $"-drive=if=none,id={drive},file={path},format={TestDisks.Driver(disk)},media={(disk.IsCdrom ? "cdrom" : "disk")},"
                + $"readonly={OnOff(readOnly)},cache={(disk.NoFlush ? "unsafe" : "writeback")},discard=unmap";
        }
        else
        {
            var storage = string.Create(CultureInfo.InvariantCulture, $"libvirt-{number}-storage");
            drive = NodeOf(disk, number);
            var common = $$"""
                "read-only":{{(readOnly ? "true" : "false")}},"discard":"unmap","cache":{"direct":false,"no-flush":{{(
                    disk.NoFlush ? "true" : "false"
                )}}}
                """;
            string driver = disk.IsBlockDevice ? "host_device" : "file";
            yield return $$"""-blockdev={"driver":"{{driver}}","filename":"{{path}}","node-name":"{{storage}}",{{common}}}""";
            if (disk.Format == DiskFormat.Qcow2)
                yield return $$"""-blockdev={"node-name":"{{drive}}","driver":"qcow2","file":"{{storage}}",{{common}}}""";
        }

        var id = disk.Arguments == DiskArguments.Drive ? "" : $",id={disk.Name}";
        if (disk.IsCdrom)
        {
            yield return $"-device=ide-cd,drive={drive}{id}";
        }
        else if (disk.Bus == DiskBus.VirtioBlk)
        {
            if (disk.IoThread)
                yield return $"-object=iothread,id=iothread-{disk.Name}";
            yield return $"-device=virtio-blk-pci,drive={drive}{id}{(disk.IoThread ? $",iothread=iothread-{disk.Name}" : "")}";
        }
        else
        {
            yield return $"-device={(disk.Bus == DiskBus.Ide ? "ide-hd" : "scsi-hd,bus=scsi0.0")},drive={drive}{id}";
        }
    }

    private static string OnOff(bool on) => on ? "on" : "off";
}
