using System.CommandLine;
using Bgsnap.NodeAgent.Cli;

RootCommand root = new("bgsnap-agent: background snapshots of running QEMU virtual machines.")
{
    CaptureCommand.Create(args),
    SnapshotCommands.Inspect(),
    SnapshotCommands.Verify(),
    RestoreCommands.Export(),
    RestoreCommand.Create(args),
    FreeCommand.Create(),
    RestoredCommand.Create(),
    NodeCommand.Node(args),
    NodeCommand.Carry(),
};
return await CommandChecks.RunAsync(root.Parse(args));
