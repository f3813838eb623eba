using Bgsnap.Qemu.Vm;

namespace Bgsnap.NodeAgent.Tests.Vm;

public sealed class VcpuTimesTests
{
    [Theory]
    [InlineData("100 7", "100 7", false)]
    [InlineData("100 7", "105 7", false)]
    [InlineData("100 7", "100 13", true)]
    [InlineData("100 7", "100", false)]
    public void A_guest_has_run_when_a_vCPU_has_used_processor_time(string before, string after, bool hasRun) =>
        Assert.Equal(hasRun, VcpuTimes.HasRun(VcpuTimes.Parse(before)!, VcpuTimes.Parse(after)));

    [Theory]
    [InlineData("")]
    [InlineData("1 x")]
    [InlineData("-1")]
    [InlineData("99999999999999999999")]
    [InlineData("\0\0")]
    public void A_note_that_is_no_list_of_times_says_nothing(string text) => Assert.Null(VcpuTimes.Parse(text));

    [Fact]
    public void Times_are_read_as_they_were_written() => Assert.Equal([3L, 0, 5], VcpuTimes.Parse(VcpuTimes.Text([3, 0, 5]))!);
}
