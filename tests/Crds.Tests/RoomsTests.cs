using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace Bgsnap.Crds.Tests;

/// <summary>
/// Each folder of src is an assembly, a room. References go down only (docs/design/0024): the compiler keeps that, and these tests keep the
/// references.
/// </summary>
public class RoomsTests
{
    /// <summary>What each room may know: a new room, or a new reference, is a decision to be made here.</summary>
    private static readonly Dictionary<string, string[]> Below = new()
    {
        ["Vocabulary"] = [],
        ["Linux"] = [],
        ["SnapshotFormat"] = ["Vocabulary", "Linux"],
        ["Qemu"] = ["Vocabulary", "Linux"],
        ["Engine"] = ["Vocabulary", "Linux", "SnapshotFormat", "Qemu"],
        ["ControllerRuntime"] = [],
        ["Crds"] = ["Vocabulary", "ControllerRuntime"],
        ["NodeAgent"] = ["Vocabulary", "Linux", "SnapshotFormat", "Qemu", "Engine", "ControllerRuntime", "Crds"],
        ["Operator"] = ["Vocabulary", "ControllerRuntime", "Crds"],
    };

    /// <summary>Folders with a project; a checkout of another version may have left others.</summary>
    private static string[] Folders =>
        [
            .. Directory
                .GetDirectories(Repository.Path("src"))
                .Select(folder => Path.GetFileName(folder))
                .Where(name => File.Exists(Repository.Path("src", name, $"{name}.csproj")))
                .Order(),
        ];

    public static IEnumerable<object[]> Rooms => Folders.Select(name => new object[] { name });

    [Fact]
    public void Every_room_is_known() => Assert.Equal(Below.Keys.Order(), Folders);

    [Fact]
    public void What_a_room_may_know_is_below_it() =>
        Assert.All(Below, room => Assert.All(room.Value, below => Assert.DoesNotContain(room.Key, Below[below])));

    [Theory]
    [MemberData(nameof(Rooms))]
    public void A_project_references_only_rooms_below(string room) =>
        Assert.Empty(Items(room, "ProjectReference").Select(p => Path.GetFileNameWithoutExtension(p)).Except(Below[room]));

    [Theory]
    [MemberData(nameof(Rooms))]
    public void A_project_shows_its_internals_only_to_rooms_above_and_to_tests(string room)
    {
        IEnumerable<string> rooms = Items(room, "InternalsVisibleTo")
            .Where(name => !File.Exists(Repository.Path("tests", name, $"{name}.csproj")))
            .Select(name => name == "bgsnap-agent" ? "NodeAgent" : name.Replace("Bgsnap.", "", StringComparison.Ordinal));
        Assert.All(rooms, above => Assert.Contains(room, Below[above]));
    }

    /// <summary>A name in a comment is not compiled.</summary>
    [Theory]
    [MemberData(nameof(Rooms))]
    public void No_file_names_a_room_above(string room)
    {
        string[] foreign = [.. Below.Keys.Except([room, .. Below[room]])];
        string folder = Repository.Path("src", room);
        Assert.Empty(
            from file in Directory.GetFiles(folder, "*.cs", SearchOption.AllDirectories)
            where !Path.GetRelativePath(folder, file).StartsWith("obj", StringComparison.Ordinal)
            from Match name in Regex.Matches(File.ReadAllText(file), @"\bBgsnap\.(\w+)")
            where foreign.Contains(name.Groups[1].Value)
            select $"{Path.GetRelativePath(folder, file)}: {name.Value}"
        );
    }

    /// <summary>Inside the agent's program: commands know tasks, both know processes, and not the other way.</summary>
    [Theory]
    [InlineData("Processes", "Cli|Tasks")]
    [InlineData("Tasks", "Cli")]
    public void A_folder_of_the_agent_names_none_above(string folder, string above) =>
        Assert.DoesNotContain(Directory.GetFiles(Repository.Path("src", "NodeAgent", folder), "*.cs"), file =>
            Regex.IsMatch(File.ReadAllText(file), $@"\bBgsnap\.NodeAgent\.({above})\b|(?<![\w.])({above})\.[A-Z]")
        );

    private static IEnumerable<string> Items(string room, string kind) =>
        XDocument
            .Load(Repository.Path("src", room, $"{room}.csproj"))
            .Descendants(kind)
            .Select(e => e.Attribute("Include")!.Value.Replace('\\', '/'));
}
