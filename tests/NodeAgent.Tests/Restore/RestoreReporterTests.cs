using System.Text.Json;
using Bgsnap.Engine.Restore;
using Bgsnap.NodeAgent.Cli;
using Bgsnap.NodeAgent.Processes;
using Bgsnap.SnapshotFormat.Store;

namespace Bgsnap.NodeAgent.Tests.Restore;

public class RestoreReporterTests
{
    [Fact]
    public void Percents_grow_to_the_end_and_reach_100_there_only()
    {
        RestoreProgress progress = new();
        Assert.Equal(("Starting", 0.0), Now());
        progress.TotalBytes = 1000;
        progress.Phase = "Disks";
        progress.Add(333);
        Assert.Equal(("Disks", 33.3), Now());
        progress.Phase = "Memory";
        // More than the manifest announced.
        progress.Add(900);
        Assert.Equal(("Memory", 99.9), Now());
        progress.Phase = "Done";
        Assert.Equal(("Done", 100.0), Now());

        (string, double) Now()
        {
            var line = RestoreReporter.Line(progress, 0);
            return (line.Phase, line.Percent);
        }
    }

    [Fact]
    public void The_lines_are_those_of_the_documentation()
    {
        Assert.Equal(
            """{"type":"progress","phase":"Memory","percent":50,"copiedBytes":5,"totalBytes":10,"bytesPerSecond":7}""",
            JsonSerializer.Serialize(new RestoreProgressLine("progress", "Memory", 50, 5, 10, 7), MessagesJson.Default.RestoreProgressLine)
        );
        Assert.Equal(
            """{"type":"summary","snapshot":"s","method":"stream","timeToRunMicroseconds":1,"totalMicroseconds":2,"disksMicroseconds":3,"memoryMicroseconds":4,"ramBytes":5,"diskBytes":6,"disks":["vda"],"guestState":"running","thawed":1,"stillFrozen":null,"loadMicroseconds":0}""",
            JsonSerializer.Serialize(
                new RestoreSummaryLine("summary", "s", "stream", 1, 2, 3, 4, 5, 6, ["vda"], "running", 1, null),
                MessagesJson.Default.RestoreSummaryLine
            )
        );
    }

    [Fact]
    public void Each_end_has_its_word_and_exit_code()
    {
        Assert.Equal(("TargetDiffers", ExitCode.Refused), Of(new RestoreRefusedException("TargetDiffers", "x")));
        Assert.Equal(("TargetFull", ExitCode.Failed), Of(new RestoreFailedException("TargetFull", "x")));
        Assert.Equal(("Cancelled", ExitCode.Cancelled), Of(new RestoreFailedException("Cancelled", "x")));
        Assert.Equal(("SnapshotCorrupt", ExitCode.Corrupt), Of(new SnapshotCorruptException("f", 1, "x")));

        static (string, int) Of(Exception e)
        {
            var line = Failure.Describe(e);
            return (line.Reason, line.ExitCode);
        }
    }
}
