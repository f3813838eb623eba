using Bgsnap.Engine.Capture;
using Bgsnap.Qemu.Libvirt;

namespace Bgsnap.NodeAgent.Tests.Libvirt;

public class LibvirtSocketTests
{
    [Theory]
    [InlineData("qemu:///system", "qemu:///system", "/run/libvirt/virtqemud-sock")]
    [InlineData("qemu+unix:///system", "qemu:///system", "/run/libvirt/virtqemud-sock")]
    [InlineData(
        "qemu+unix:///session?socket=/proc/7/root/run/libvirt/virtqemud-sock",
        "qemu:///session",
        "/proc/7/root/run/libvirt/virtqemud-sock"
    )]
    [InlineData("qemu+unix:///system?mode=direct&socket=/a", "qemu:///system", "/a")]
    public void A_URI_names_driver_and_socket(string uri, string driver, string path)
    {
        LibvirtSocket socket = LibvirtSocket.Parse(uri);
        Assert.Equal((driver, path, null), (socket.Driver, socket.Paths[0], socket.Root));
    }

    [Theory]
    [InlineData("")]
    [InlineData("xen:///system")]
    [InlineData("qemu+ssh://host/system")]
    [InlineData("qemu://host/system")]
    [InlineData("qemu+unix:///session?socket=")]
    [InlineData("qemu+unix:///session?mode=direct")]
    public void Another_URI_is_refused(string uri) => Assert.Throws<ArgumentException>(() => LibvirtSocket.Parse(uri));

    [Theory]
    [InlineData("/run/vm/qmp", "qemu", "-qmp", "unix:/run/vm/qmp,server=on,wait=off")]
    [InlineData("/a", "qemu", "-S", "-qmp-pretty", "unix:/a", "-m", "1G")]
    [InlineData(null, "qemu", "-chardev", "socket,id=charmonitor,fd=17,server=on", "-mon", "chardev=charmonitor,id=monitor,mode=control")]
    [InlineData(null, "qemu", "-qmp", "tcp:127.0.0.1:1")]
    [InlineData(null, "qemu", "-qmp")]
    [InlineData(null)]
    public void A_process_has_a_QMP_socket_of_its_own_or_not(string? path, params string[] words) =>
        Assert.Equal(path, MonitorAddress.OwnSocket(words));
}
