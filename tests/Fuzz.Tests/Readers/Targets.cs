using Bgsnap.Fuzz.Engine;

namespace Bgsnap.Fuzz.Readers;

/// <summary>Every reader of foreign bytes; docs/design/0022 lists who writes what each of them reads.</summary>
internal static class Targets
{
    /// <summary>How to make each.</summary>
    internal static IReadOnlyList<Func<FuzzTarget>> All { get; } =
    [
        () => new ManifestTarget(),
        () => new PageLogTarget(),
        () => new GranuleTarget(),
        () => new StartOrderTarget(),
        () => new Qcow2Target(),
        () => new MigrationStreamTarget(),
        () => new DeviceStateTarget(),
        () => new QmpTarget(),
        () => new RamBlocksTarget(),
        () => new MapsTarget(),
        () => new NbdTarget(),
        () => new GuestAgentTarget(),
        () => new LibvirtTarget(),
        () => new XdrTarget(),
    ];

    /// <summary>Their names.</summary>
    internal static IReadOnlyList<string> Names { get; } =
    [
        .. All.Select(make =>
        {
            using FuzzTarget target = make();
            return target.Name;
        }),
    ];

    /// <summary>Makes one by its name.</summary>
    internal static FuzzTarget Make(string name) =>
        All[
            Names.ToList().IndexOf(name) is >= 0 and int i
                ? i
                : throw new ArgumentException($"there is no reader {name}; there are {string.Join(", ", Names)}")
        ]
            ();
}
