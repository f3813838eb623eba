using System.Reflection.Metadata;
using System.Reflection.PortableExecutable;
using Bgsnap.Linux;

namespace Bgsnap.NodeAgent.Tests.Linux;

public sealed class AgentThreadTests
{
    [Fact]
    public void What_a_body_throws_goes_to_its_owner()
    {
        Exception? got = null;
        InvalidOperationException thrown = new("x");
        bool inBackground = false;
        Thread thread = AgentThread.Start(
            "test",
            () =>
            {
                inBackground = Thread.CurrentThread.IsBackground;
                throw thrown;
            },
            e => got = e
        );
        thread.Join();
        Assert.Same(thrown, got);
        Assert.True(inBackground);
    }

    [Fact]
    public void An_owner_that_throws_ends_nothing()
    {
        Thread thread = AgentThread.Start(
            "test",
            () => throw new InvalidOperationException("body"),
            _ => throw new InvalidOperationException("owner")
        );
        thread.Join(); // an exception that left the thread would have ended this process
    }

    /// <summary>
    /// Code that starts threads, or lets the runtime call us on a thread where an exception ends the process, exists only in the two
    /// classes that pass exceptions on.
    /// </summary>
    [Theory]
    [InlineData(typeof(AgentThread))]
    [InlineData(typeof(SnapshotFormat.Store.Manifest))]
    [InlineData(typeof(Qemu.RefusedException))]
    [InlineData(typeof(Engine.Capture.CaptureOptions))]
    [InlineData(typeof(NodeAgent.Processes.ExitCode))]
    [InlineData(typeof(ControllerRuntime.Controller.ObjectKey))]
    [InlineData(typeof(Crds.Kinds.BgsnapJson))]
    public void Nothing_else_makes_threads(Type ofAssembly)
    {
        List<string> found =
        [
            .. CallsOf(ofAssembly.Assembly.Location)
                .Where(c => IsDangerous(c.Called))
                .Where(c =>
                    !c.By.StartsWith(nameof(AgentThread), StringComparison.Ordinal)
                    && !c.By.StartsWith(nameof(EndSignals), StringComparison.Ordinal)
                )
                .Select(c => $"{c.By} calls {c.Called}"),
        ];
        Assert.True(found.Count == 0, string.Join("\n", found));
        // The scan must find what it looks for.
        if (ofAssembly == typeof(AgentThread))
            Assert.Equal(
                ["AgentThread", "EndSignals"],
                CallsOf(ofAssembly.Assembly.Location).Where(c => IsDangerous(c.Called)).Select(c => c.By).Distinct().Order()
            );
    }

    private static bool IsDangerous(string called) =>
        called
            is "Thread..ctor"
                or "Timer..ctor"
                or "PosixSignalRegistration.Create"
                or "Console.add_CancelKeyPress"
                or "ThreadPool.QueueUserWorkItem"
                or "ThreadPool.UnsafeQueueUserWorkItem"
                or "ThreadPool.RegisterWaitForSingleObject"
                or "AsyncVoidMethodBuilder.Create";

    /// <summary>Members of other assemblies that this assembly's methods call, with the outermost class of the calling method.</summary>
    private static List<(string By, string Called)> CallsOf(string path)
    {
        using PEReader file = new(File.OpenRead(path));
        MetadataReader metadata = file.GetMetadataReader();
        List<(string, string)> calls = [];
        foreach (MethodDefinitionHandle handle in metadata.MethodDefinitions)
        {
            MethodDefinition method = metadata.GetMethodDefinition(handle);
            if (method.RelativeVirtualAddress == 0)
                continue;
            byte[] code = file.GetMethodBody(method.RelativeVirtualAddress).GetILBytes() ?? [];
            for (int i = 0; i + 5 <= code.Length; i++)
            {
                // call, callvirt, newobj, ldftn (its second byte) and a token; for a number that only looks like one, the lookup finds
                // nothing.
                if (
                    code[i] is not (0x28 or 0x6f or 0x73 or 0x06)
                    || code[i + 4] != 0x0a
                    || MemberOf(metadata, BitConverter.ToInt32(code, i + 1) & 0xffffff) is not { } called
                )
                    continue;
                calls.Add((Outermost(metadata, method.GetDeclaringType()), called));
            }
        }
        return calls;
    }

    private static string? MemberOf(MetadataReader metadata, int row)
    {
        if (
            row == 0
            || row
                > System.Reflection.Metadata.Ecma335.MetadataReaderExtensions.GetTableRowCount(
                    metadata,
                    System.Reflection.Metadata.Ecma335.TableIndex.MemberRef
                )
        )
            return null;
        MemberReference member = metadata.GetMemberReference(System.Reflection.Metadata.Ecma335.MetadataTokens.MemberReferenceHandle(row));
        return member.Parent.Kind == HandleKind.TypeReference
            ? $"{metadata.GetString(metadata.GetTypeReference((TypeReferenceHandle)member.Parent).Name)}.{metadata.GetString(member.Name)}"
            : null;
    }

    private static string Outermost(MetadataReader metadata, TypeDefinitionHandle type)
    {
        TypeDefinition definition = metadata.GetTypeDefinition(type);
        return definition.GetDeclaringType() is { IsNil: false } outer ? Outermost(metadata, outer) : metadata.GetString(definition.Name);
    }
}
